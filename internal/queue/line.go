package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
)

// line delivers one service's messages, one after the other. What is not said to be otherwise
// belongs to its goroutine.
type line struct {
	service string
	backlog backlog
	sender  Sender
	logger  *slog.Logger
	news    chan struct{} // holds a token while there is something new to see

	policy   atomic.Pointer[Policy]
	depth    atomic.Int64 // messages that wait, those that are about to be accepted among them
	counts   counts
	refusals refusals
	mirror   *mirror       // nil if there is no Redis
	wake     chan struct{} // holds a token while there may be something to do

	sending context.Context // outlives the line's by lastChance
	cursor  string          // the last message that was read
	ahead   []entry         // were read and have not been looked at
	head    *entry          // is next
	resting restingHeap
	failed  int       // failures in a row
	paused  time.Time // nothing is sent before, after a failure
	asked   bool      // because the upstream has asked for it

	mu        sync.Mutex // guards what follows
	refused   time.Time  // nothing is sent before, as the breaker does not let it
	current   string     // is being sent; "" if none is
	urgent    []string   // an operator wants them tried now
	gone      map[string]bool
	leftover  []string      // delivered, and could not be removed
	recovered bool          // the breaker has closed
	arrived   bool          // a message has come
	problem   string        // why the last attempt failed; "" after a success
	reason    events.Reason // likewise
	next      time.Time
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

func newLine(service string, b backlog, c *Config) *line {
	l := &line{
		service: service, backlog: b, sender: c.Sender, logger: c.Logger.With("service", service),
		news: make(chan struct{}, 1), wake: make(chan struct{}, 1), gone: map[string]bool{},
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
func (l *line) run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastChance, cancel) })()
	l.sending = sending
	for ctx.Err() == nil {
		l.obey()
		wait, err := l.step(ctx)
		if err != nil && ctx.Err() == nil {
			l.logger.Error("the queue can't be worked on, and is tried again", "error", err)
			wait = troublePause
		}
		if wait <= 0 {
			continue
		}
		l.rest(ctx, wait)
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
func (l *line) step(ctx context.Context) (wait time.Duration, err error) {
	p := l.policy.Load()
	e, wait, err := l.find(ctx, p)
	if err != nil || e == nil {
		return wait, err
	}
	age := time.Since(acceptedAt(e.payload))
	expired := age > p.MaxAge
	if wait := l.mayNotYet(); wait > 0 && !expired {
		return min(wait, p.MaxAge-age+time.Millisecond), nil
	}
	if !expired && !l.mirror.ready() {
		return readyPause, nil // which nudges
	}
	if !l.take(e.id) {
		l.head = nil // somebody has dropped it
		return 0, nil
	}
	defer l.take("")
	if expired {
		return 0, l.bury(ctx, p, e, CauseExpired, fmt.Sprintf("it waited for longer than %v", p.MaxAge))
	}
	m, err := decode(e.payload, p.Keys)
	if err != nil {
		return 0, l.bury(ctx, p, e, CauseUnreadable, err.Error())
	}
	return 0, l.deliver(ctx, p, e, m)
}

// find returns the message that is next, or how long to wait for one.
func (l *line) find(ctx context.Context, p *Policy) (e *entry, wait time.Duration, err error) {
	limit := maxResting
	if p.Ordered {
		limit = 1
	}
	for l.head == nil {
		now := time.Now()
		if len(l.resting) > 0 && !l.resting[0].until.After(now) {
			e, found, err := l.backlog.get(ctx, l.resting[0].id)
			if err != nil {
				return nil, 0, err
			}
			heap.Pop(&l.resting)
			if found {
				l.head = &e
			}
			continue
		}
		if len(l.resting) >= limit {
			return nil, l.resting[0].until.Sub(now), nil
		}
		if len(l.ahead) == 0 {
			if l.ahead, err = l.backlog.read(ctx, l.cursor, readMessages, readBytes); err != nil {
				return nil, 0, err
			}
		}
		switch {
		case len(l.ahead) > 0:
			e := l.ahead[0]
			l.cursor, l.ahead = e.id, l.ahead[1:]
			if e.note.NotBefore.After(now) {
				heap.Push(&l.resting, resting{e.id, e.note.NotBefore})
				continue
			}
			l.head = &e
		case len(l.resting) > 0:
			return nil, l.resting[0].until.Sub(now), nil
		default:
			l.mu.Lock()
			clear(l.gone) // they are nowhere any more
			l.mu.Unlock()
			return nil, longestWait, nil
		}
	}
	return l.head, 0, nil
}

// mayNotYet returns how long nothing may be sent.
func (l *line) mayNotYet() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.paused
	if l.refused.After(until) {
		until = l.refused
	}
	l.next = until
	return time.Until(until)
}

// take makes id the one that is being sent, unless it was dropped.
func (l *line) take(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone[id] {
		delete(l.gone, id)
		return false
	}
	l.current = id
	return true
}

// deliver sends one message and sees to what becomes of it.
func (l *line) deliver(ctx context.Context, p *Policy, e *entry, m *Message) error {
	m.Header.Set(attemptField, fmt.Sprint(e.note.Attempts+1))
	answer, err := l.sender.Send(l.sending, l.service, m)
	var refused *NotAdmitted
	switch {
	case errors.As(err, &refused):
		l.wait(refused.RetryAt)
		return nil
	case l.sending.Err() != nil:
		return nil // it may have arrived, and is tried again by whoever comes next
	case err != nil:
		reason := events.ReasonReset
		if failed := new(Failed); errors.As(err, &failed) {
			reason = failed.Reason
		}
		return l.failure(ctx, p, e, reason, err.Error(), 0)
	case answer.Status >= 200 && answer.Status < 300:
		l.delivered(e)
		return nil
	case retryable(answer.Status):
		return l.failure(ctx, p, e, events.ReasonStatus, fmt.Sprintf("status %d", answer.Status), answer.RetryAfter)
	default:
		l.settle("", "")
		l.failed, l.paused, l.asked = 0, time.Time{}, false
		return l.bury(ctx, p, e, CauseRefused, fmt.Sprintf("status %d", answer.Status))
	}
}

// attemptField is the field that tells an upstream how often a message has been sent.
const attemptField = "X-Delivery-Attempt"

// retryable reports whether a status other than of success may be another one next time.
func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// wait keeps the line still until the breaker may let something through.
func (l *line) wait(until time.Time) {
	if until.IsZero() {
		until = time.Now().Add(halfOpenPause)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = until
}

// admit tells that the breaker has changed its mind; recovered that it has closed. It may be
// called by anybody.
func (l *line) admit(recovered bool) {
	l.mu.Lock()
	l.refused = time.Time{}
	l.recovered = l.recovered || recovered
	l.mu.Unlock()
	l.nudge()
}

// settle keeps how the last attempt went, for people to see.
func (l *line) settle(reason events.Reason, problem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason, l.problem = reason, problem
}

func (l *line) delivered(e *entry) {
	l.head = nil
	l.failed, l.paused, l.asked = 0, time.Time{}, false
	l.settle("", "")
	l.counts.delivered.Add(1)
	l.left()
	l.discard(e.id)
}

// left counts one message less.
func (l *line) left() {
	if l.depth.Add(-1) == 0 {
		l.logger.Info("the queue is empty again", "delivered", l.counts.delivered.Load(), "dead", l.counts.dead.Load())
	}
	l.changed()
}

// discard removes a message that is delivered. Where that fails it is kept in mind: the cursor
// has passed it.
func (l *line) discard(id string) {
	l.backlog.remove(id, func(err error) {
		if err == nil {
			l.mirror.gone(parseSeq(id)) // only now: as long as it is in the store it may get a copy
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leftover = append(l.leftover, id)
		time.AfterFunc(troublePause, l.nudge)
		if len(l.leftover) == 1 {
			l.logger.Error("what is delivered can't be removed from the queue, and is tried again; if the process ends before, it is delivered again", "error", err)
		}
	})
}

// failure sees to a message whose delivery may succeed later.
func (l *line) failure(ctx context.Context, p *Policy, e *entry, reason events.Reason, problem string, retryAfter time.Duration) error {
	e.note.Attempts++
	e.note.LastError = problem
	l.failed++
	l.counts.retried.Add(1)
	l.settle(reason, problem)
	l.asked = retryAfter > 0
	retryAfter = min(retryAfter, maxRetryAfter)
	wait := max(p.wait(l.failed), retryAfter)
	l.paused = time.Now().Add(wait)
	if e.note.Attempts >= p.MaxAttempts {
		return l.bury(ctx, p, e, CauseAttempts, problem)
	}
	e.note.NotBefore = time.Now().Add(max(p.wait(e.note.Attempts), retryAfter)).UTC()
	l.head = nil
	heap.Push(&l.resting, resting{e.id, e.note.NotBefore})
	l.changed()
	return l.backlog.annotate(ctx, e.id, e.note)
}

// bury sees to a message that will never be delivered.
func (l *line) bury(ctx context.Context, p *Policy, e *entry, cause Cause, problem string) error {
	e.note.Cause, e.note.LastError, e.note.Died = cause, problem, time.Now().UTC()
	e.note.NotBefore = time.Time{}
	lost, err := l.backlog.bury(ctx, e.id, e.note, p.Capacity)
	if err != nil {
		return err
	}
	l.head = nil
	l.counts.dead.Add(1)
	l.counts.lost.Add(uint64(lost))
	l.logger.Warn("a queued request will not be delivered and is kept as a dead letter", "id", l.service+"."+e.id, "cause", cause, "last_error", problem, "attempts", e.note.Attempts)
	if lost > 0 {
		l.logger.Error("there are too many dead letters: the oldest are removed", "removed", lost, "capacity", p.Capacity)
	}
	l.left()
	l.mirror.gone(parseSeq(e.id))
	return nil
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
	urgent, leftover := l.urgent, l.leftover
	hurried := !l.asked && (l.recovered || l.arrived && l.failed < maxHurried) // 429 closes a breaker, too
	l.urgent, l.leftover, l.recovered, l.arrived = nil, nil, false, false
	if len(urgent) > 0 {
		l.refused = time.Time{}
	}
	l.mu.Unlock()
	for _, id := range leftover {
		l.discard(id)
	}
	if hurried && len(l.resting) > 0 {
		urgent = append(urgent, l.resting[0].id)
	}
	for _, id := range urgent {
		l.paused = time.Time{}
		l.resting.hurry(id)
	}
}
