package algorithm

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

func TestAlgorithmsAreRegisteredByName(t *testing.T) {
	names := slices.Sorted(maps.Keys(Options()))
	for _, want := range []string{"budget", "count", Default, "throttle"} {
		if !slices.Contains(names, want) {
			t.Errorf("%v lacks %s", names, want)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("%v is not sorted", names)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name can be registered twice")
		}
	}()
	Register("count", Factory{})
}

// What is decoded into the options of one route must not be the default of the next.
func TestOptionsAreNewEachTime(t *testing.T) {
	for name, options := range Options() {
		if options == nil {
			continue
		}
		if a, b := options(), options(); a == b || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s: %+v and %+v", name, a, b)
		}
	}
	o := Options()["count"]().(*CountOptions)
	o.Calls = 7
	if got := Options()["count"]().(*CountOptions).Calls; got != 100 {
		t.Errorf("%d calls by default, want 100", got)
	}
}
