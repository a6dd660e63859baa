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
		s := &ServiceReport{Calls: len(calls), first: calls[0].time(), last: calls[len(calls)-1].time()}
		for i := range calls {
			if calls[i].outcome() == events.ResultFailure {
				s.Failures++
			}
		}
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
		s.Unknown = s.Config.unknown
		if s.Against != nil {
			s.Unknown = max(s.Unknown, s.Against.unknown)
		}
	}
	return report, skipped
}
