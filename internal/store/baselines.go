package store

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// baselineBucket is the bucket of what breakers have learnt; the keys are services.
var baselineBucket = []byte("circuit_breaker_baseline")

// LoadBaseline returns what SaveBaselines has stored for a service; nil if that is nothing.
func (f *File) LoadBaseline(service string) (record []byte, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		if b := tx.Bucket(baselineBucket); b != nil {
			record = bytes.Clone(b.Get([]byte(service)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the baseline of %s: %w", service, err)
	}
	return record, nil
}

// SaveBaselines stores what breakers have learnt, by service. The records of other services are kept.
func (f *File) SaveBaselines(records map[string][]byte) error {
	err := f.update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(baselineBucket)
		if err != nil {
			return err
		}
		for service, record := range records {
			if err := b.Put([]byte(service), record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save baselines: %w", err)
	}
	return nil
}
