package adaptive

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	recordVersion = 1    // of the form of a stored record
	maxCalls      = 1e15 // that a record may have: a million a second for thirty years
)

// storedRecord is what a Learner has learnt, as it is stored. Durations are in nanoseconds.
type storedRecord struct {
	Version     int           `json:"version"`
	Options     Options       `json:"options"`
	Calls       float64       `json:"calls"`
	Failures    float64       `json:"failures"`
	NewCalls    uint64        `json:"new_calls"`
	NewFailures uint64        `json:"new_failures"`
	Elapsed     time.Duration `json:"elapsed"` // of the current period
	Before      float64       `json:"before"`
	Learned     time.Duration `json:"learned"`
	Total       uint64        `json:"total"`
	Openings    Openings      `json:"openings"`
	Recent      uint16        `json:"recent"`
	Demoted     bool          `json:"demoted"`
}

// Record returns what has been learnt as JSON, without the evidence, for Restore.
func (l *Learner) Record(now time.Duration) ([]byte, error) {
	b, t := &l.baseline, &l.record
	return json.Marshal(storedRecord{
		Version: recordVersion, Options: l.options, Calls: b.calls, Failures: b.failures, NewCalls: b.newCalls, NewFailures: b.newFailures,
		Elapsed: min(now-b.start, period), Before: b.before, Learned: b.learned, Total: b.total,
		Openings: t.openings, Recent: t.recent, Demoted: t.demoted,
	})
}

// Restore sets what has been learnt to that of a record. A demotion ends if the options have changed since. If the record is damaged or
// has another version, it returns an error and changes nothing.
func (l *Learner) Restore(now time.Duration, record []byte) error {
	var r storedRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return fmt.Errorf("decode the record: %w", err)
	}
	if r.Version != recordVersion {
		return fmt.Errorf("the record has version %d, not %d", r.Version, recordVersion)
	}
	if !r.valid() {
		return errors.New("the record has values that are impossible")
	}
	restored := NewLearner(l.options)
	restored.baseline = baseline{
		calls: r.Calls, failures: r.Failures, newCalls: r.NewCalls, newFailures: r.NewFailures, start: now - r.Elapsed,
		before: r.Before, learned: r.Learned, total: r.Total,
	}
	restored.baseline.update(&l.options)
	restored.setLikelihoods()
	if restored.record.openings = r.Openings; r.Options == l.options {
		restored.record.recent, restored.record.demoted = r.Recent, r.Demoted
	}
	*l = *restored
	return nil
}

func (r *storedRecord) valid() bool {
	return r.Failures >= 0 && r.Calls >= r.Failures && r.Calls <= maxCalls && r.NewCalls >= r.NewFailures && r.NewCalls <= maxCalls &&
		r.Total <= maxCalls && r.Elapsed >= 0 && r.Elapsed <= period && r.Learned >= 0 && r.Learned < math.MaxInt64/2 &&
		r.Before > 0 && r.Before <= 1 && r.Recent < 1<<recentOpenings
}
