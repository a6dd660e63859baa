package balance

import (
	"math"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// eject ejects an endpoint that has failed several times, unless too many are ejected already.
func (s *Set) eject(e *Endpoint, cause events.EndpointCause, f *events.Failure) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s = s.group.current
	list := *s.list.Load()
	if !s.running || e.ejected.Load() || !slices.Contains(list, e) || countEjected(list)+1 > s.config.Policy.maxEjected(len(list)) {
		return
	}
	if time.Since(e.reinstated) >= s.config.Policy.Time {
		e.inRow = 0
	}
	s.ejectLocked(e, cause, f)
}

// ejectLocked ejects an endpoint, or prolongs its ejection.
func (s *Set) ejectLocked(e *Endpoint, cause events.EndpointCause, f *events.Failure) {
	now := time.Now()
	e.inRow++
	e.total++
	e.until = now.Add(s.config.Policy.ejection(e.inRow))
	e.ejected.Store(true)
	s.scheduleTrial()
	s.config.Publish(events.EndpointChanged{
		Time: now, Service: s.config.Service, Endpoint: e.URL, State: events.EndpointEjected, Cause: cause, Until: e.until, Failure: f,
	})
}

// reinstate ends the ejection of an endpoint. group.mu is held.
func (s *Set) reinstate(e *Endpoint, cause events.EndpointCause) {
	e.ejected.Store(false)
	e.failures.Store(0)
	e.reinstated, e.checkFailures = time.Now(), 0
	s.scheduleTrial()
	s.config.Publish(events.EndpointChanged{
		Time: e.reinstated, Service: s.config.Service, Endpoint: e.URL, State: events.EndpointIn, Cause: cause,
	})
}

// scheduleTrial sets the time of the next trial. It is called after each change, with group.mu held.
func (s *Set) scheduleTrial() {
	next := int64(math.MaxInt64)
	for _, e := range *s.list.Load() {
		if e.ejected.Load() && !e.onTrial && !s.config.Policy.HealthChecks {
			next = min(next, e.until.UnixNano())
		}
	}
	s.trialAt.Store(next)
}

// dueForTrial returns an endpoint whose ejection has ended and that no other request tries, or nil.
func (s *Set) dueForTrial(list []*Endpoint) *Endpoint {
	if s.trialAt.Load() == math.MaxInt64 {
		return nil // mostly: without a look at the clock
	}
	now := time.Now()
	if now.UnixNano() < s.trialAt.Load() {
		if s.group.afterFailedTrial.Load() {
			s.group.afterFailedTrial.Store(false)
		}
		return nil
	}
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if s.group.afterFailedTrial.Swap(false) {
		return nil
	}
	for _, e := range list {
		if e.ejected.Load() && !e.onTrial && !now.Before(e.until) {
			e.onTrial = true
			s.scheduleTrial()
			return e
		}
	}
	return nil
}

// cancelTrial ends the trial of an endpoint without a result.
func (s *Set) cancelTrial(e *Endpoint) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	e.onTrial = false
	s.group.current.scheduleTrial()
}

// endTrial ends the trial of an endpoint, which failed with f; nil: it succeeded.
func (s *Set) endTrial(e *Endpoint, f *events.Failure) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	e.onTrial = false
	s = s.group.current
	switch {
	case !e.ejected.Load() || !slices.Contains(*s.list.Load(), e): // reinstated or removed meanwhile
	case f == nil:
		s.reinstate(e, events.EndpointRecovered)
	default:
		s.group.afterFailedTrial.Store(true)
		s.ejectLocked(e, events.EndpointTrialFailed, f)
	}
}

// Checked reports the result of a health check of an endpoint: f is its failure, nil if it is healthy. The failures of checks have a row
// of their own: an endpoint may answer requests while it says that it is not healthy.
func (s *Set) Checked(e *Endpoint, f *events.Failure) {
	s.group.mu.Lock()
	s = s.group.current
	due := e.ejected.Load() && !time.Now().Before(e.until)
	if f == nil {
		e.checkFailures = 0
		if due {
			s.reinstate(e, events.EndpointRecovered)
		}
		s.group.mu.Unlock()
		return
	}
	e.checkFailures++
	e.lastFailure.Store(f)
	if due {
		s.ejectLocked(e, events.EndpointTrialFailed, f)
	}
	limit := s.config.Policy.FailMax
	unhealthy := limit > 0 && e.checkFailures >= limit
	s.group.mu.Unlock()
	if f.Type == events.ErrorConnect {
		s.resolveSoon()
	}
	if unhealthy {
		s.eject(e, events.EndpointUnhealthy, f)
	}
}

// limitEjections reinstates the endpoints whose ejections end first if more are ejected than the policy allows. group.mu is held.
func (s *Set) limitEjections() {
	list := *s.list.Load()
	limit, cause := s.config.Policy.maxEjected(len(list)), events.EndpointNeeded
	if s.config.Policy.FailMax == 0 {
		cause = events.EndpointNotJudged
	}
	for countEjected(list) > max(limit, 0) {
		var first *Endpoint
		for _, e := range list {
			if e.ejected.Load() && (first == nil || e.until.Before(first.until)) {
				first = e
			}
		}
		s.reinstate(first, cause)
	}
	s.scheduleTrial()
}

func countEjected(list []*Endpoint) (n int) {
	for _, e := range list {
		if e.ejected.Load() {
			n++
		}
	}
	return n
}
