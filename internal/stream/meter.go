// Package stream finds out whether a stream has begun in time, and whether it is too slow.
//
// A Meter is given what is read of a stream, and the times of the reads. It counts the content, which excludes what only keeps the
// connection in use, such as comments in an event stream, see [Format]. And it counts the time for which the stream's reader waits for
// the stream: the time of the reads, without the time in which the upstream may be waiting for the client's body.
//
// Before the content begins, that time is limited by Limits.FirstEvent. From then on it is divided into windows of length
// Limits.Window, each of which begins where the last one ended. A window with less content than Limits.MinRate requires is a failure
// when it is full. A stream that becomes too slow may have had enough content in the window that is under way, so this is noticed after
// two windows at most. The last window of a stream, which is not full, is never a failure.
package stream

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

// Limits are the limits of a stream. The zero Limits limit nothing.
type Limits struct {
	// FirstEvent is the longest time until there is a first byte, or in the format Events a first event with data; 0: no limit.
	FirstEvent time.Duration
	// MinRate is the smallest rate of the content in bytes per second over Window, once there is content; 0: no limit.
	MinRate int
	Window  time.Duration
}

// Any reports whether there is a limit.
func (l Limits) Any() bool { return l.FirstEvent > 0 || l.MinRate > 0 }

// Clock holds times that only increase, at one moment.
type Clock struct {
	// Now is the time since some moment before the stream began.
	Now time.Duration
	// ClientWait is how much of Now was spent on waiting for the client's body.
	ClientWait time.Duration
	// Paused is for how long the process has been stopped. When it has increased, the current window and the time until the first event
	// begin anew.
	Paused time.Duration
}

// Meter applies Limits to a stream. It is not safe for concurrent use.
type Meter struct {
	limits  Limits
	content content
	reading bool          // between BeginRead and EndRead
	last    Clock         // at the last call
	waited  time.Duration // in the current window, or until the content begins
	before  int64         // the content before the current window
}

// NewMeter returns the meter of a stream whose header section has arrived now.
func NewMeter(l Limits, f Format, now Clock) *Meter {
	return &Meter{limits: l, content: content{format: f}, last: now}
}

// BeginRead is called at the begin of each read. It returns after which time Check is to be called, unless EndRead is called before; 0 if
// no limit applies.
func (m *Meter) BeginRead(now Clock) (check time.Duration) {
	m.advance(now)
	m.reading = true
	switch limit := m.limit(); {
	case limit == 0 || m.windowPassed():
		return limit
	default:
		return max(limit-m.waited, 1)
	}
}

// EndRead is called at the end of each read, with what was read.
func (m *Meter) EndRead(now Clock, p []byte) {
	m.advance(now)
	m.reading = false
	began := m.hasContent()
	m.content.add(p)
	if !began && m.hasContent() {
		m.waited, m.before = 0, 0 // what has just been read belongs to the first window
	}
}

// Check returns an error of type *Error if a limit has been exceeded. Otherwise it returns after which time it is to be called again; 0 if
// no limit applies, or if there is no read in progress.
func (m *Meter) Check(now Clock) (next time.Duration, err error) {
	m.advance(now)
	limit := m.limit()
	switch {
	case !m.reading || limit == 0:
		return 0, nil
	case m.waited < limit:
		return max(limit-m.waited, limit/20), nil // not at once while the time does not count
	case !m.content.begun:
		return 0, m.noFirstEvent()
	case !m.isFastEnough():
		return 0, m.tooSlow()
	default:
		return limit, nil
	}
}

// advance adds the time since the last call to the current window, if it counts.
func (m *Meter) advance(now Clock) {
	wait := now.Now - m.last.Now - (now.ClientWait - m.last.ClientWait)
	switch {
	case now.Paused > m.last.Paused:
		m.beginWindow()
	case m.reading && wait > 0:
		if m.windowPassed() { // not before: what is read at one moment belongs to one window, in however many reads
			m.beginWindow()
		}
		m.waited += wait
	}
	m.last = now
}

// windowPassed reports whether the current window is full and has enough content.
func (m *Meter) windowPassed() bool {
	return m.hasContent() && m.waited >= m.limits.Window && m.isFastEnough()
}

func (m *Meter) beginWindow() { m.waited, m.before = 0, m.content.total() }

// limit returns the limit on waited; 0 if there is none.
func (m *Meter) limit() time.Duration {
	switch {
	case !m.content.begun:
		return m.limits.FirstEvent
	case m.limits.MinRate > 0 && m.hasContent():
		return m.limits.Window
	}
	return 0
}

// hasContent reports whether the rate counts: in the format Lines, a stream may begin with blank lines.
func (m *Meter) hasContent() bool { return m.content.begun && m.content.total() > 0 }

// isFastEnough reports whether the current window has as much content as a full one must have.
func (m *Meter) isFastEnough() bool {
	return float64(m.content.total()-m.before) >= float64(m.limits.MinRate)*m.limits.Window.Seconds()
}

// Error reports that a stream has exceeded a limit.
type Error struct {
	tooSlow bool // the limit was MinRate, and otherwise FirstEvent
	text    string
}

// Error implements error. It says what was measured.
func (e *Error) Error() string { return e.text }

// Type returns the type of the failure.
func (e *Error) Type() events.ErrorType {
	if e.tooSlow {
		return events.ErrorSlowStream
	}
	return events.ErrorIdle
}

func (m *Meter) noFirstEvent() error {
	what := "byte"
	if m.content.format == Events {
		what = "server-sent event with data"
	}
	return &Error{text: fmt.Sprintf("no %s in %v, first_event_timeout is %v", what, m.roundedWait(m.limits.FirstEvent), m.limits.FirstEvent)}
}

func (m *Meter) tooSlow() error {
	return &Error{tooSlow: true, text: fmt.Sprintf("%d bytes in %v, min_bytes_per_second is %d",
		max(m.content.total()-m.before, 0), m.roundedWait(m.limits.Window), m.limits.MinRate)}
}

// roundedWait returns waited to one hundredth of limit.
func (m *Meter) roundedWait(limit time.Duration) time.Duration {
	return m.waited.Round(max(limit/100, time.Millisecond))
}
