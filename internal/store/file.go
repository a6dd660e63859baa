package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"cbproxy/internal/boltfile"
	"cbproxy/internal/events"
)

// Buckets in the file.
var (
	stateBucket   = []byte("circuit_breaker_state")
	historyBucket = []byte("circuit_breaker_history") // one bucket per service; the keys are sequence numbers
)

// File is a Store in a bbolt database, which one process at a time can use. When Save and Append return, the change is on the disk.
type File struct{ db *bolt.DB }

// Load implements Store.
func (f *File) Load(_ context.Context, service string) (s State, found bool, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		text := tx.Bucket(stateBucket).Get([]byte(service))
		found = text != nil
		if !found {
			return nil
		}
		return json.Unmarshal(text, &s)
	})
	if err != nil {
		return State{}, false, fmt.Errorf("load the state of %s: %w", service, err)
	}
	return s, found, nil
}

// Save implements Store.
func (f *File) Save(_ context.Context, s State) error {
	err := f.update(func(tx *bolt.Tx) error {
		b, key := tx.Bucket(stateBucket), []byte(s.Service)
		var kept State
		if text := b.Get(key); text != nil && json.Unmarshal(text, &kept) == nil && kept.Epoch > s.Epoch {
			return nil
		}
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return b.Put(key, text)
	})
	if err != nil {
		return fmt.Errorf("save the state of %s: %w", s.Service, err)
	}
	return nil
}

// Append implements Store.
func (f *File) Append(_ context.Context, c events.HistoryEntry) error {
	err := f.update(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(historyBucket).CreateBucketIfNotExists([]byte(c.Service))
		if err != nil {
			return err
		}
		text, err := json.Marshal(c)
		if err != nil {
			return err
		}
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		if err := b.Put(binary.BigEndian.AppendUint64(nil, n), text); err != nil || n <= HistoryLimit {
			return err
		}
		cursor := b.Cursor()
		for key, _ := cursor.First(); key != nil && binary.BigEndian.Uint64(key) <= n-HistoryLimit; key, _ = cursor.First() {
			if err := b.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add to the history of %s: %w", c.Service, err)
	}
	return nil
}

// History implements Store.
func (f *File) History(_ context.Context, service string, limit int) (changes []events.HistoryEntry, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(historyBucket).Bucket([]byte(service))
		if b == nil {
			return nil
		}
		cursor := b.Cursor()
		for key, text := cursor.Last(); key != nil && len(changes) < limit; key, text = cursor.Prev() {
			var c events.HistoryEntry
			if err := json.Unmarshal(text, &c); err != nil {
				return err
			}
			changes = append(changes, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", service, err)
	}
	return changes, nil
}

// Close implements Store.
func (f *File) Close() error { return f.db.Close() }

func (f *File) view(do func(*bolt.Tx) error) error {
	return boltfile.Guard(func() error { return f.db.View(do) })
}

func (f *File) update(do func(*bolt.Tx) error) error {
	return boltfile.Guard(func() error { return f.db.Update(do) })
}
