package adaptive

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// recordVersion is that of the form of a stored record. The first one had no durations.
	recordVersion = 2
	// maxCalls is the number of calls that a record may have: a million a second for thirty years.
	maxCalls = 1e15
)

// Record is what a Learner has learnt, without the evidence, as it is stored: in JSON. Durations are in nanoseconds. It is not modified
// by what the Learner learns later.
type Record struct {
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

	Durations *durationsRecord `json:"durations,omitempty"` // nil in the first version
}

// Record returns what has been learnt, for Restore.
func (l *Learner) Record(now time.Duration) Record {
	b, t := &l.baseline, &l.record
	return Record{
		Version: recordVersion, Options: l.options, Calls: b.pastCalls, Failures: b.pastFailures, NewCalls: b.newCalls, NewFailures: b.newFailures,
		Elapsed: b.elapsed(now), Before: b.before, Learned: b.learned, Total: b.total,
		Openings: t.openings, Recent: t.recent, Demoted: t.demoted, Durations: l.durations.record(now),
	}
}

// Restore sets what has been learnt to that of a record in JSON. A demotion ends if the options have changed since. If the record is
// damaged or has an unknown version, it returns an error and changes nothing.
func (l *Learner) Restore(now time.Duration, record []byte) error {
	var r Record
	if err := json.Unmarshal(record, &r); err != nil {
		return fmt.Errorf("decode the record: %w", err)
	}
	if r.Version < 1 || r.Version > recordVersion {
		return fmt.Errorf("the record has version %d, not 1 to %d", r.Version, recordVersion)
	}
	if !r.valid() {
		return errors.New("the record has values that are impossible")
	}
	restored := NewLearner(l.options)
	restored.baseline = baseline{
		hours:     hours{start: now - r.Elapsed, newCalls: r.NewCalls, newFailures: r.NewFailures, learned: r.Learned, total: r.Total},
		pastCalls: r.Calls, pastFailures: r.Failures, before: r.Before,
	}
	restored.baseline.update(&l.options)
	restored.setLikelihoods()
	if restored.record.openings = r.Openings; r.Options == l.options {
		restored.record.recent, restored.record.demoted = r.Recent, r.Demoted
	}
	restored.durations.start = now
	restored.durations.restore(&l.options, now, l.durations.slowCall, r.Durations)
	*l = *restored
	return nil
}

func (r *Record) valid() bool {
	return r.Failures >= 0 && r.Calls >= r.Failures && r.Calls <= maxCalls && r.NewCalls >= r.NewFailures && r.NewCalls <= maxCalls &&
		r.Total <= maxCalls && r.Elapsed >= 0 && r.Elapsed <= period && r.Learned >= 0 && r.Learned < math.MaxInt64/2 &&
		r.Before > 0 && r.Before <= 1 && r.Recent < 1<<recentOpenings &&
		(r.Durations == nil || r.Durations.valid())
}
