package adaptive

import (
	"fmt"
	"math"
	"time"
)

// maxExplained is the number of calls up to which it is computed after how many the breaker opens.
const maxExplained = 10_000

// explain describes the state of the learner in a sentence for operators.
func (l *Learner) explain(now time.Duration) string {
	slow := l.durations.explain(&l.options, now)
	switch {
	case slow == "":
		return l.explainMode(now)
	case l.options.Mode == Off:
		return "off: only durations are learnt; " + slow
	}
	return l.explainMode(now) + "; " + slow
}

// explainMode describes what is done by the failures.
func (l *Learner) explainMode(now time.Duration) string {
	if l.options.Mode == Off {
		return "off: nothing is learnt"
	}
	b := &l.baseline
	if calls := b.calls(); calls < uint64(l.options.WarmupCalls) {
		return fmt.Sprintf("still learning: %d of %d calls", calls, l.options.WarmupCalls)
	}
	if !b.isWarm(&l.options, now) {
		return fmt.Sprintf("still learning: calls of %v of %v", b.time(now).Round(time.Second), l.options.WarmupTime)
	}
	opens := "opens"
	if l.Mode() == Shadow {
		opens = "would open"
	}
	if l.inARow == 0 {
		l.inARow, l.halfFailing = l.callsToOpen(1), l.callsToOpen(2)
	}
	text := fmt.Sprintf("fails at most 1 in %.0f when healthy; %s after %d failures in a row", math.Floor(1/b.ratio+1e-9), opens, l.inARow)
	if l.halfFailing > 0 {
		text += fmt.Sprintf(", or %d calls of which half fail", l.halfFailing)
	}
	if l.record.demoted && l.options.Mode == Enforce {
		text += fmt.Sprintf("; in shadow mode, because more than %d of its last %d openings were refuted", maxRefuted, recentOpenings)
	}
	return text
}

// callsToOpen returns the number of calls after which the evidence is complete if every n-th one fails, the first one included; 0 if that
// takes too many.
func (l *Learner) callsToOpen(n int) int {
	var d detector
	for i := range maxExplained {
		failed := i%n == 0
		if d.observe(&l.likelihoods, failed); failed && l.complete(&d) {
			return i + 1
		}
	}
	return 0
}
