package app

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// fakeBaselines is a baselineFile in memory.
type fakeBaselines struct {
	records map[string][]byte
	writes  int
	err     error
}

func (f *fakeBaselines) LoadBaseline(service string) ([]byte, error) {
	return f.records[service], f.err
}

func (f *fakeBaselines) SaveBaselines(records map[string][]byte) error {
	f.writes++
	if f.err != nil {
		return f.err
	}
	for service, record := range records {
		f.records[service] = record
	}
	return nil
}

// learningBreaker returns a breaker that has learnt from n calls.
func learningBreaker(t *testing.T, n int) *breaker.Breaker {
	b := breaker.New("svc", breaker.Policy{HalfOpenRequests: 1, RecoveryTimeout: time.Minute, Adaptive: adaptive.Options{
		Mode: adaptive.Enforce, FalseAlarm: 1e-8, Floor: 0.01, Cap: 0.1,
	}}, func(events.Event) {})
	t.Cleanup(b.Close)
	for range n {
		call, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		call.Success(0)
	}
	return b
}

func TestBaselinesAreWrittenWhenTheyChange(t *testing.T) {
	var log bytes.Buffer
	file := &fakeBaselines{records: map[string][]byte{}}
	breakers := map[string]*breaker.Breaker{"svc": learningBreaker(t, 5)}
	s := &baselines{
		file: file, breakers: func() map[string]*breaker.Breaker { return breakers }, written: map[string][]byte{},
		logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	file.err = errors.New("disk full")
	if err := s.write(); err == nil || !strings.Contains(log.String(), "disk full") {
		t.Errorf("%v, %s", err, log.String())
	}
	file.err = nil
	if err := s.write(); err != nil {
		t.Error(err)
	}
	restored := learningBreaker(t, 0)
	if s.restore("svc", restored); restored.Baseline().Calls != 5 {
		t.Errorf("restored %+v", restored.Baseline())
	}
	for _, damaged := range []string{"{}", `{"version":0}`} {
		file.records["svc"] = []byte(damaged)
		log.Reset()
		if s.restore("svc", restored); restored.Baseline().Calls != 5 || strings.Count(log.String(), "learning starts again") != 1 {
			t.Errorf("%+v, %s", restored.Baseline(), log.String())
		}
	}
	file.err = errors.New("disk error")
	if s.restore("svc", restored); !strings.Contains(log.String(), "disk error") {
		t.Error(log.String())
	}
	s.file = nil
	if s.restore("svc", restored); s.write() != nil {
		t.Error("an error without data_dir")
	}
}
