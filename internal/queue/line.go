package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// line delivers one service's messages, one after the other. What is not said to be otherwise
// belongs to its goroutine.
type line struct {
	service   string
	store     *disk.Queue
	logger    *slog.Logger
	news      chan struct{}                  // holds a token while there is something new to see

	policy atomic.Pointer[Policy]
	depth  atomic.Int64 // messages that wait, those that are about to be accepted among them
	counts counts
	wake   chan struct{} // holds a token while there may be something to do
	mirror *mirror       // nil if there is no Redis
	ended  chan struct{} // closed when nothing is delivered any more

	refusals refusals

	sending context.Context // outlives the line's by lastChance
	sender  Sender
	ordered bool            // what follows is how an ordered line reads
	cursor  uint64          // the last message that was read
	skipped map[uint64]bool // are not to be read: they were delivered already
	ahead   []disk.Record   // were read and have not been looked at
	head    *entry          // is next
	resting restingHeap
	failed  int       // failures in a row
	unsent  bool      // the last one found no connection
	paused  time.Time // nothing is sent before, after a failure
	asked   bool      // because the upstream has asked for it
	passing passing

	orders sync.Mutex // held while an operator's order is carried out: each sees what became of those before

	mu         sync.Mutex // guards what follows
	refused    time.Time  // nothing is sent before, as the breaker does not let it
	admissions uint64     // how often the breaker has changed its mind
	current    uint64     // is being sent; 0 if none is
	urgent     []uint64   // an operator wants them tried now
	dropped    []uint64   // are not there any more, and nothing need wait for them
	aside      map[uint64]bool
	kept       []uint64 // were to be dropped, were passed, and could not be dropped
	drops      map[uint64]drop
	unremoved  map[uint64]bool // delivered, and still in the store
	leftover   []uint64        // of them, those that could not be removed
	recovered  bool            // the breaker has closed
	arrived    bool            // a message has come
	problem    string          // why the last attempt failed; "" after a success
	reason     events.Reason   // likewise
	next       time.Time
}

// counts are what a line has done since the process began.
type counts struct{ accepted, delivered, retried, dead, lost, adopted, surrendered atomic.Uint64 }

// How much of a backlog is read at once, and how many messages may rest while those behind
// them are tried, where order does not matter.
const (
	readMessages = 64
	readBytes    = 1 << 20
	maxResting   = 1000
)

// lastChance is how long a delivery may take once the line is to end.
const lastChance = 5 * time.Second

// Waits where nothing else says how long.
const (
	halfOpenPause = time.Second      // until a place to probe may be free
	troublePause  = time.Second      // until a store that fails is tried again
	readyPause    = 10 * time.Second // until the mirror has compared
	longestWait   = 5 * time.Minute  // clocks may be set
)

// maxRetryAfter is how long an upstream may ask to be left alone.
const maxRetryAfter = time.Hour

func newLine(service string, c *Config) *line {
	l := &line{
		service: service, store: c.Store, logger: c.Logger.With("service", service),
		news: make(chan struct{}, 1), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		drops: map[uint64]drop{}, unremoved: map[uint64]bool{}, aside: map[uint64]bool{},
	}
	l.policy.Store(&defaultPolicy)
	return l
}

// nudge makes the line look what there is to do. It may be called by anybody.
func (l *line) nudge() { signal(l.wake) }

// changed tells that there is something new to see. It may be called by anybody.
func (l *line) changed() { signal(l.news) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is a token
	}
}

// run delivers until ctx is done. What is on its way then gets a little time.
func (l *line) run(ctx context.Context, sender Sender) {
	defer close(l.ended)
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastChance, cancel) })()
	l.sending, l.sender = sending, sender
	for ctx.Err() == nil {
		l.obey()
		wait, err := l.step()
		if err != nil && ctx.Err() == nil {
			l.logger.Error("the queue can't be worked on, and is tried again", "error", err)
			wait = troublePause
		}
		if wait <= 0 {
			continue
		}
		l.rest(ctx, wait)
	}
	if err := l.writeNote(); err != nil {
		l.logger.Error("cannot record a failed delivery", "error", err)
	}
}

func (l *line) rest(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(min(wait, longestWait))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-t.C:
	}
}

// step deals with one message, and returns how long to wait before there can be another; 0 is
// not at all.
func (l *line) step() (wait time.Duration, err error) {
	p := l.policy.Load()
	e, wait, err := l.find(p)
	again := l.refute()
	if err == nil && l.passing.allowed && (e == nil || p.passable(e)) {
		e, wait, err = l.pass(p, e, wait)
	}
	if l.passing.unwritten != nil && (err != nil || e == nil || !e.trial) {
		return 0, errors.Join(err, l.writeNote())
	}
	if err != nil || e == nil {
		return min(wait, again), err
	}
	left := p.left(e)
	if wait := l.mayNotYet(e); wait > 0 && left > 0 {
		return min(wait, left, again), nil
	}
	if left > 0 && !l.mirror.ready() {
		return min(readyPause, left), nil // it nudges
	}
	if !l.take(e) {
		return 0, nil // somebody has dropped it
	}
	defer l.release()
	if left <= 0 {
		return 0, l.bury(p, e, CauseExpired, fmt.Sprintf("it waited for longer than %v", p.MaxAge))
	}
	m, err := decode(e.payload, p.Keys)
	if err != nil {
		return 0, l.bury(p, e, CauseUnreadable, err.Error())
	}
	return 0, errors.Join(l.deliver(p, e, m), l.writeNote())
}

// find returns the message that is next, or how long to wait for one.
func (l *line) find(p *Policy) (e *entry, wait time.Duration, err error) {
	limit := maxResting
	if p.Ordered {
		limit = 1
	}
	if p.Ordered != l.ordered {
		l.ordered = p.Ordered
		l.beginAnew()
	}
	for l.head == nil {
		now := time.Now()
		if due := l.due(now); due != nil {
			r, dead, found, err := l.store.Get(l.service, (*due)[0].seq)
			if err != nil {
				return nil, 0, err
			}
			heap.Pop(due)
			if found && !dead { // nobody has dropped it
				e := entryOf(r)
				l.head = &e
			}
			continue
		}
		if len(l.resting) >= limit || !p.Ordered && len(l.resting)+len(l.passing.aside) >= limit {
			return nil, l.untilNext(), nil
		}
		if len(l.ahead) == 0 {
			if l.ahead, err = l.store.Read(l.service, l.cursor, readMessages, readBytes); err != nil {
				return nil, 0, err
			}
			maps.DeleteFunc(l.skipped, func(seq uint64, _ bool) bool { return seq <= l.cursor })
		}
		switch {
		case len(l.ahead) > 0:
			e := entryOf(l.ahead[0])
			l.cursor, l.ahead = e.seq, l.ahead[1:]
			if e.note.Aside && !l.skipped[e.seq] {
				l.keepAside(e.seq)
			}
			switch {
			case l.skipped[e.seq]:
			case e.note.NotBefore.After(now):
				l.lay(p, &e)
			default:
				l.head = &e
			}
		case len(l.resting)+len(l.passing.aside) > 0:
			return nil, l.untilNext(), nil
		default:
			l.forgetDrops()
			return nil, longestWait, nil
		}
	}
	return l.head, 0, nil
}

// beginAnew makes the line read from the beginning: what rests is in no order.
func (l *line) beginAnew() {
	l.cursor, l.ahead, l.head, l.resting = 0, nil, nil, nil
	l.passing = passing{unwritten: l.passing.unwritten}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.aside)
	l.skipped = maps.Clone(l.unremoved)
}

// lay lets a message rest until it may be tried again, or is too old for that.
func (l *line) lay(p *Policy, e *entry) {
	until := e.note.NotBefore
	if end := time.Now().Add(p.left(e)); end.Before(until) {
		until = end
	}
	h := &l.resting
	if e.note.Aside || !p.Ordered && e.note.suspect() {
		h = &l.passing.aside
	}
	heap.Push(h, resting{e.seq, until})
}

// forgetDrops is for when there is nothing that could still be dropped.
func (l *line) forgetDrops() {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.drops, func(_ uint64, d drop) bool { return d == dropDone })
}

// untilNext returns how long it is until the first that rests may be tried.
func (l *line) untilNext() time.Duration {
	until := l.nextDue()
	l.plan(until, l.paused)
	return time.Until(until)
}

// mayNotYet returns how long e may not be sent.
func (l *line) mayNotYet(e *entry) time.Duration {
	paused := l.paused
	if l.mayPass(e) {
		paused = time.Time{}
	}
	return time.Until(l.plan(time.Time{}, paused))
}

// plan returns when something may be sent, which is not before a moment and the end of a pause, and
// shows it to people.
func (l *line) plan(until, paused time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range []time.Time{paused, l.refused} {
		if other.After(until) {
			until = other
		}
	}
	l.next = until
	return until
}

// take makes e the one that is being sent, unless it was dropped.
func (l *line) take(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drops[e.seq] == 0 {
		l.current = e.seq
		return true
	}
	if e.trial {
		return false // the cursor has not passed it
	}
	l.head = nil
	if l.drops[e.seq] == dropBegun {
		l.drops[e.seq] = dropPassed
	}
	return false
}

// release tells that what was taken is not being sent any more.
func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = 0
}

// heard returns how often the breaker has changed its mind.
func (l *line) heard() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admissions
}

// wait keeps the line still until the breaker may let something through, unless it has changed
// its mind since heard.
func (l *line) wait(until time.Time, heard uint64) {
	if now := time.Now(); !until.After(now) {
		until = now.Add(halfOpenPause)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admissions == heard {
		l.refused = until
	}
}

// admit tells that the breaker has changed its mind; recovered that it has closed. It may be
// called by anybody.
func (l *line) admit(recovered bool) {
	l.mu.Lock()
	l.refused = time.Time{}
	l.admissions++
	l.recovered = l.recovered || recovered
	l.mu.Unlock()
	l.nudge()
}

// maxHurried is how many failures in a row are not waited after as long as messages keep
// coming. Those who send them would ask the upstream as often without a queue, and the breaker
// learns from it as soon that the upstream is dead.
const maxHurried = 10

// arrive tells that a message has come. It may be called by anybody.
func (l *line) arrive() {
	l.mu.Lock()
	l.arrived = true
	l.mu.Unlock()
	l.nudge()
}

// obey does what operators have asked for, and what is left over.
func (l *line) obey() {
	l.mu.Lock()
	urgent, dropped, kept, leftover := l.urgent, l.dropped, l.kept, l.leftover
	recovered := l.recovered && !l.asked // 429 closes a breaker, too
	arrived := l.arrived && !l.asked && l.failed < maxHurried
	l.urgent, l.dropped, l.kept, l.leftover, l.recovered, l.arrived = nil, nil, nil, nil, false, false
	if len(urgent) > 0 {
		l.refused = time.Time{}
	}
	l.mu.Unlock()
	for _, seq := range leftover {
		l.discard(seq)
	}
	for _, seq := range kept {
		heap.Push(&l.resting, resting{seq: seq})
	}
	if len(urgent) > 0 || recovered || arrived {
		l.paused = time.Time{}
	}
	if len(urgent) > 0 {
		l.passing.asideFrom = time.Time{}
	}
	// Where others may pass what rests, who has just come tells the breaker as much.
	if len(l.resting) > 0 && (recovered || arrived && l.policy.Load().Ordered) {
		urgent = append(urgent, l.resting[0].seq)
	}
	for _, seq := range append(urgent, dropped...) {
		l.resting.hurry(seq)
		l.passing.aside.hurry(seq)
	}
}
