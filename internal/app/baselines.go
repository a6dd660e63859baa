package app

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"cbproxy/internal/breaker"
)

// baselineInterval is the time between two writes of what breakers have learnt.
const baselineInterval = time.Minute

// baselineFile stores what breakers have learnt, by service. store.File implements it.
type baselineFile interface {
	LoadBaseline(service string) ([]byte, error)
	SaveBaselines(records map[string][]byte) error
}

// baselines persists what breakers have learnt, in data_dir only. It is safe for concurrent use.
type baselines struct {
	file     baselineFile // nil: nothing is persisted
	breakers func() map[string]*breaker.Breaker
	logger   *slog.Logger

	mu      sync.Mutex        // held while records are written
	written map[string][]byte // the records in file that this process has written; guarded by mu
}

// restore gives a new breaker what an earlier process has learnt.
func (s *baselines) restore(service string, b *breaker.Breaker) {
	if s.file == nil {
		return
	}
	record, err := s.file.LoadBaseline(service)
	if err == nil && record != nil {
		err = b.RestoreBaseline(record)
	}
	if err != nil {
		s.logger.Warn("cannot restore what was learnt of an upstream, learning starts again", "service", service, "error", err)
	}
}

// run writes what has changed each baselineInterval until ctx is done.
func (s *baselines) run(ctx context.Context) {
	if s.file != nil {
		every(ctx, baselineInterval, func(time.Time) { _ = s.write() }) // it has logged the error
	}
}

// write writes what has changed since the last time, and logs an error, which it returns, too.
func (s *baselines) write() error {
	if s.file == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string][]byte{}
	for service, b := range s.breakers() {
		record, err := b.BaselineRecord()
		if err != nil {
			s.logger.Error("cannot encode what was learnt of an upstream", "service", service, "error", err)
			continue
		}
		if record != nil && !bytes.Equal(record, s.written[service]) {
			changed[service] = record
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if err := s.file.SaveBaselines(changed); err != nil {
		s.logger.Error("cannot persist what was learnt of upstreams", "error", err)
		return err
	}
	for service, record := range changed {
		s.written[service] = record
	}
	return nil
}
