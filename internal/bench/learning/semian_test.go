package learning

import "time"

// semian is the controller of Semian's adaptive circuit breaker (experimental, version 0.26) by its documentation: once a second the
// rejection rate changes by a PID control signal of the error
//
//	P = (error rate - ideal error rate) - rejection rate
//
// where the error rate is that of the calls of the last 10 seconds, and the ideal one is the 90th percentile of the error rates of the
// last hour, at most 10 %. The gains are those with which it registers a resource; history begins with 15 minutes of 1 %. The limit of
// the integral, which later versions have too, keeps an hour of health from delaying the reaction to a fault.
// https://github.com/Shopify/semian#adaptive-circuit-breaker-experimental
type semian struct {
	window    lastSeconds
	history   []uint16             // error rates of the last hour in thousandths, oldest first
	rates     [semianSteps + 1]int // how often each of them is in history
	updated   time.Duration
	rejection float64
	integral  float64
	previousP float64
}

const (
	semianKp, semianKi, semianKd = 0.75, 0.01, 0.5
	semianWindow                 = 10 // seconds
	semianHistory                = 3600
	semianMaxIdeal               = 0.1
	semianMaxIntegral            = 10
	semianSteps                  = 1000
)

func newSemian() *semian {
	s := &semian{window: newLastSeconds(semianWindow)}
	for range 15 * 60 {
		s.remember(0.01)
	}
	return s
}

func (s *semian) admit(now time.Duration, random float64) bool {
	s.update(now)
	return random >= s.rejection
}

func (s *semian) observe(now time.Duration, failed bool) {
	s.update(now)
	s.window.count(now, failed)
}

// update makes the updates of the seconds that have ended.
func (s *semian) update(now time.Duration) {
	for ; s.updated+time.Second <= now; s.updated += time.Second {
		errorRate := 0.0
		if calls, failures := s.window.counts(s.updated); calls > 0 {
			errorRate = float64(failures) / float64(calls)
		}
		s.remember(errorRate)
		p := errorRate - s.ideal() - s.rejection
		s.integral = min(max(s.integral+p, -semianMaxIntegral), semianMaxIntegral)
		signal := semianKp*p + semianKi*s.integral + semianKd*(p-s.previousP)
		s.rejection, s.previousP = min(max(s.rejection+signal, 0), 1), p
	}
}

// remember adds an error rate to the history.
func (s *semian) remember(errorRate float64) {
	if len(s.history) == semianHistory {
		s.rates[s.history[0]]--
		s.history = s.history[1:]
	}
	step := uint16(errorRate*semianSteps + 0.5)
	s.history = append(s.history, step)
	s.rates[step]++
}

// ideal returns the 90th percentile of the history, or 10 % if that is less.
func (s *semian) ideal() float64 {
	above, step := 0, semianSteps
	for ; step > 0; step-- {
		if above += s.rates[step]; above*10 > len(s.history) {
			break
		}
	}
	return min(float64(step)/semianSteps, semianMaxIdeal)
}
