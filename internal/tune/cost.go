package tune

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"cbproxy/internal/simulate"
)

// Cost is what is to become small.
type Cost struct {
	// Passed is the cost of a failure that reaches the caller, Refused that of refusing a call that had succeeded.
	Passed, Refused float64
}

// of returns the cost of a result.
func (c Cost) of(r *simulate.Result) float64 {
	return c.Passed*float64(r.FailuresPassed) + c.Refused*float64(r.RefusedGood)
}

// deviation returns the standard deviation of the difference of two costs if each counted event were independent.
func (c Cost) deviation(a, b *simulate.Result) float64 {
	return math.Sqrt(c.Passed*c.Passed*float64(a.FailuresPassed+b.FailuresPassed) + c.Refused*c.Refused*float64(a.RefusedGood+b.RefusedGood))
}

// String returns the cost as Set accepts it.
func (c *Cost) String() string {
	return "passed=" + strconv.FormatFloat(c.Passed, 'g', -1, 64) + ",refused=" + strconv.FormatFloat(c.Refused, 'g', -1, 64)
}

// Type is the name of the type in help texts.
func (c *Cost) Type() string { return "cost" }

// Set sets the cost from a text such as passed=3,refused=1. What the text does not name stays as it is.
func (c *Cost) Set(text string) error {
	next := *c
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= 0) || n > 1e9 {
			return fmt.Errorf("must be passed=NUMBER,refused=NUMBER with numbers from 0 to 1e9, got %q", text)
		}
		switch name {
		case "passed":
			next.Passed = n
		case "refused":
			next.Refused = n
		default:
			return fmt.Errorf("must name passed or refused, got %q", name)
		}
	}
	if next.Passed == 0 && next.Refused == 0 {
		return errors.New("must have at least one number above 0")
	}
	*c = next
	return nil
}
