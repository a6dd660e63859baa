package simulate

import (
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// Policies returns the policy of a service's breaker; false if the configuration does not have the service.
type Policies func(service string) (breaker.Policy, bool)

// Compare runs the calls of each service with the policies of a configuration and, if against is not nil, with those of another one. A
// service that the configuration does not have is left out; skipped has their names.
func Compare(record Record, config, against Policies) (report *Report, skipped []string) {
	report = &Report{Services: map[string]*ServiceReport{}}
	for name, calls := range record {
		policy, ok := config(name)
		if !ok {
			skipped = append(skipped, name)
			continue
		}
		if len(calls) == 0 {
			continue
		}
		s := newServiceReport(calls)
		report.Services[name] = s
		done := make(chan struct{})
		go func() { // on another core
			defer close(done)
			if against == nil {
				return
			}
			if other, ok := against(name); ok {
				s.Against = Run(name, other, calls)
			}
		}()
		s.Config = Run(name, policy, calls)
		<-done
		s.setUnknown()
	}
	return report, skipped
}

// newServiceReport returns what a record tells without a simulation. calls is not empty.
func newServiceReport(calls []Call) *ServiceReport {
	s := &ServiceReport{Calls: len(calls), first: calls[0].Time(), last: calls[len(calls)-1].Time()}
	for i := range calls {
		if calls[i].Result() == events.ResultFailure {
			s.Failures++
		}
	}
	return s
}

// setUnknown sets Unknown by the results.
func (s *ServiceReport) setUnknown() {
	s.Unknown = s.Config.unknown
	if s.Against != nil {
		s.Unknown = max(s.Unknown, s.Against.unknown)
	}
}

// CompareChecked does what Compare does with the calls of one service, in the calling goroutine. The result of against is that in memo if
// it is the same. The error is that of check.
func CompareChecked(service string, calls []Call, config, against breaker.Policy, memo *Memo, check Check) (*Report, error) {
	report := &Report{Services: map[string]*ServiceReport{}}
	if len(calls) == 0 {
		return report, nil
	}
	s := newServiceReport(calls)
	var err error
	if s.Against, err = memo.run(service, against, calls, check); err != nil {
		return nil, err
	}
	if s.Config = s.Against; config != against {
		if s.Config, err = RunChecked(service, config, calls, check); err != nil {
			return nil, err
		}
	}
	s.setUnknown()
	report.Services[service] = s
	return report, nil
}
