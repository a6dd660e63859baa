package queue

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"cbproxy/internal/queue/disk"
	"cbproxy/internal/store"
)

// mirror keeps copies of one service's messages in Redis, so that another instance can take them
// over if this one dies, and takes over what others have left there. What counts is always what
// is in this instance's own store: a Redis that is gone, or has lost something, loses nothing and
// holds nobody up. What is not said to be otherwise belongs to its goroutine.
type mirror struct {
	line   *line
	store  *disk.Queue
	copies *store.Copies
	// shared reports whether there is to be a mirror.
	shared func() bool
	// admit puts a message that was taken over into the own store.
	admit  func(ctx context.Context, l *line, payload []byte) (seq uint64, err error)
	logger *slog.Logger
	times  Times
	wake   chan struct{} // holds a token while there may be something to do

	copied   uint64            // messages up to this one have copies
	compared bool              // own store and copies agree, as far as is known
	odd      int               // beats in a row at which their numbers did not
	beaten   time.Time         // the last sign of life
	looked   time.Time         // when others' were last looked for
	taken    map[string]uint64 // copies that are in the own store, and not known to be adopted

	alive   atomic.Int64 // until when others believe so, by the monotonic clock
	trouble atomic.Bool  // Redis can't be used

	mu      sync.Mutex // guards what follows
	left    []uint64   // are not in the own store any more
	missing bool       // more have left than there was room for
}

// Times are those of the copies. An instance whose sign of life, which it gives every Beat, is older
// than Alive is taken for dead; if it is not, others deliver its messages a second time. Every Look
// it looks for what others have left.
type Times struct{ Beat, Alive, Look time.Duration }

var defaultTimes = Times{Beat: 3 * time.Second, Alive: 12 * time.Second, Look: 4 * time.Second}

// keepExtra is how long copies are kept beyond the longest time that a message may wait.
const keepExtra = 24 * time.Hour

// How much is sent to Redis at once, and how many departures are kept in mind while it is away.
const (
	mirrorMessages = 200
	mirrorBytes    = 1 << 20
	maxLeft        = 100_000
)

func newMirror(l *line, c *Config, admit func(context.Context, *line, []byte) (uint64, error)) *mirror {
	return &mirror{
		line: l, store: c.Store, copies: c.Copies, shared: c.Shared, admit: admit, logger: l.logger, times: cmp.Or(c.Times, defaultTimes),
		wake: make(chan struct{}, 1), taken: map[string]uint64{},
	}
}

var started = time.Now() // what monotonic times are counted from

// ready reports whether the line may deliver: not while others may have taken over what it has,
// as long as Redis can tell. A nil mirror is always ready.
func (m *mirror) ready() bool {
	return m == nil || m.trouble.Load() || int64(time.Since(started)) < m.alive.Load()
}

// gone tells that a message is not in the own store any more. It may be called by anybody; a nil
// mirror does not care.
func (m *mirror) gone(seq uint64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	if len(m.left) < maxLeft {
		m.left = append(m.left, seq)
	} else {
		m.missing = true
	}
	m.mu.Unlock()
	signal(m.wake)
}

// arrived tells that a message is in the own store. It may be called by anybody.
func (m *mirror) arrived() {
	if m != nil {
		signal(m.wake)
	}
}

// run mirrors until ctx is done.
func (m *mirror) run(ctx context.Context) {
	pause := backoff.ExponentialBackOff{InitialInterval: 500 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
	pause.Reset()
	for ctx.Err() == nil {
		wait := m.times.Beat
		switch {
		case !m.shared():
			m.trouble.Store(true)
			m.compared = false
		default:
			if err := m.step(ctx); err != nil && ctx.Err() == nil {
				m.trouble.Store(true)
				m.compared, wait = false, pause.NextBackOff()
			} else {
				m.trouble.Store(false)
				pause.Reset()
			}
		}
		m.line.nudge() // it may be waiting until it is ready
		m.sleep(ctx, wait)
	}
	<-m.line.ended
	if !m.trouble.Load() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		m.leave(bye)
	}
}

// leave tells others that they need not wait, once they can't find what this instance has
// delivered. Where that fails they find out by themselves.
func (m *mirror) leave(ctx context.Context) {
	for m.line.removing() {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
	}
	if m.drop(ctx) == nil {
		_ = m.copies.Leave(ctx, m.line.service)
	}
}

func (m *mirror) sleep(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	wake := m.wake
	if m.trouble.Load() {
		wake = nil // it would not help
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

// step makes copies and own store agree, and looks for what others have left.
func (m *mirror) step(ctx context.Context) error {
	if err := m.beat(ctx); err != nil {
		return err
	}
	if !m.compared {
		m.compared = true // unless another beat finds out otherwise
		if err := m.compare(ctx); err != nil {
			return err
		}
	}
	m.alive.Store(int64(m.beaten.Add(m.times.Alive).Sub(started)))
	if err := m.drop(ctx); err != nil {
		return err
	}
	if err := m.push(ctx); err != nil {
		return err
	}
	return m.rescue(ctx)
}

func (m *mirror) keep() time.Duration { return m.line.policy.Load().MaxAge + keepExtra }

// beat gives the sign of life if it is time to. An instance that was taken for dead must compare
// before it goes on.
func (m *mirror) beat(ctx context.Context) error {
	if time.Since(m.beaten) < m.times.Beat {
		return nil
	}
	at := time.Now()
	was, copies, err := m.copies.Beat(ctx, m.line.service, m.times.Alive, m.keep())
	if err != nil {
		return err
	}
	m.beaten = at
	if !was {
		m.compared = false
	}
	if m.compared {
		m.alive.Store(int64(at.Add(m.times.Alive).Sub(started)))
		m.audit(copies)
	}
	return nil
}

// audit finds out by the numbers, which may differ for a moment, that Redis has lost something or
// has something too many.
func (m *mirror) audit(copies int) {
	m.mu.Lock()
	moving, missing := len(m.left), m.missing
	m.missing = false
	m.mu.Unlock()
	waiting, _ := m.store.Counts(m.line.service)
	if missing || max(copies-waiting, waiting-copies) > moving {
		m.odd++
	} else {
		m.odd = 0
	}
	if m.odd > oddBeats {
		m.odd, m.compared = 0, false
	}
}

// oddBeats is for how many beats the numbers may differ: comparing takes a while.
const oddBeats = 10

// compare finds out, message by message, what was taken over by others, what has no copy, and
// which copies are of nothing.
func (m *mirror) compare(ctx context.Context) error {
	service := m.line.service
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		copies, next, err := m.copies.Scan(ctx, service, cursor)
		if err != nil {
			return err
		}
		cursor = next
		var drop []uint64
		for seq, c := range copies {
			keep, err := m.has(seq, c)
			if err != nil {
				return err
			}
			if !keep {
				drop = append(drop, seq)
			}
		}
		if len(drop) > 0 {
			if err := m.copies.Drop(ctx, service, drop); err != nil {
				return err
			}
		}
		if err := m.beat(ctx); err != nil { // a long backlog takes a while
			return err
		}
	}
	m.copied = 0 // push looks at all of them
	return nil
}

// has reports whether the own store has what there is a copy of, once it has let go of what
// another instance has taken over.
func (m *mirror) has(seq uint64, c store.Copy) (bool, error) {
	if c.State != store.CopyDone {
		return m.store.Has(m.line.service, seq)
	}
	r, dead, found, err := m.store.Get(m.line.service, seq)
	if err != nil || !found || dead || store.Digest(r.Payload) != c.Digest {
		return false, err
	}
	return m.surrender(seq)
}

// surrender lets go of a message that another instance has taken over. It keeps one that is being
// sent at the moment.
func (m *mirror) surrender(seq uint64) (has bool, err error) {
	m.line.orders.Lock()
	defer m.line.orders.Unlock()
	if m.line.give(seq) != nil {
		return true, nil
	}
	if err := m.store.Delete(m.line.service, seq); err != nil {
		m.line.keep(seq)
		return true, err
	}
	m.line.removed(seq)
	m.line.counts.surrendered.Add(1)
	m.line.left()
	return false, nil
}

// drop removes the copies of what has left.
func (m *mirror) drop(ctx context.Context) error {
	for {
		m.mu.Lock()
		batch := m.left[:min(len(m.left), mirrorMessages)]
		m.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := m.copies.Drop(ctx, m.line.service, batch); err != nil {
			return err
		}
		m.mu.Lock()
		if m.left = m.left[len(batch):]; len(m.left) == 0 {
			m.left = nil
		}
		m.mu.Unlock()
	}
}

// push copies what has no copy.
func (m *mirror) push(ctx context.Context) error {
	for ctx.Err() == nil {
		records, err := m.store.Read(m.line.service, m.copied, mirrorMessages, mirrorBytes)
		if err != nil || len(records) == 0 {
			return err
		}
		last := records[len(records)-1].Seq
		seqs := make([]uint64, len(records))
		for i := range records {
			seqs[i] = records[i].Seq
		}
		states, err := m.copies.Look(ctx, m.line.service, seqs)
		if err != nil {
			return err
		}
		var missing []store.CopyRecord
		for i := range records {
			if states[i] == store.CopyMissing {
				missing = append(missing, store.CopyRecord{Seq: records[i].Seq, Payload: records[i].Payload})
			}
		}
		if len(missing) > 0 {
			if err := m.copies.Push(ctx, m.line.service, missing); err != nil {
				return err
			}
		}
		m.copied = last
		if err := m.beat(ctx); err != nil { // a long backlog takes a while
			return err
		}
	}
	return ctx.Err()
}
