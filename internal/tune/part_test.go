package tune

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
)

// callsOf returns calls with a pause before each: s for a success, f for a failure, r for one that was rejected, c for one that was cancelled.
func callsOf(letters string, pause time.Duration) (calls []simulate.Call) {
	for i, letter := range letters {
		c := events.Call{Time: begin.Add(time.Duration(i) * pause), Result: events.ResultSuccess}
		switch letter {
		case 'f':
			c.Result = events.ResultFailure
		case 'r':
			c.Result = events.ResultRejected
		case 'c':
			c.Result = events.ResultCancelled
		}
		calls = append(calls, simulate.NewCall(c))
	}
	return calls
}

func TestSplitIsBetweenIncidents(t *testing.T) {
	// Three incidents of four failures; the longest pause between them is the second one, which is also in the middle.
	calls := callsOf("sssffffssssssffffssssssssssssssssffffss", time.Second)
	earlier, later := split(calls)
	if len(earlier) != 25 || len(failuresIn(earlier)) != 8 || len(failuresIn(later)) != 4 {
		t.Errorf("got %d calls with %d failures, and %d with %d", len(earlier), len(failuresIn(earlier)), len(later), len(failuresIn(later)))
	}
}

func TestSplitLeavesFailuresInBothParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.SampledFrom([]rune("fs")), 30, 200, -1).Draw(t, "calls")
		pause := rapid.SampledFrom([]time.Duration{0, time.Nanosecond, time.Second}).Draw(t, "pause")
		calls := callsOf(letters, pause)
		n := len(failuresIn(calls))
		if n < minFailures {
			t.Skip("too few failures")
		}
		earlier, later := split(calls)
		if got := slices.Concat(earlier, later); !slices.Equal(got, calls) {
			t.Fatalf("the parts have %d and %d of %d calls", len(earlier), len(later), len(calls))
		}
		if got := len(failuresIn(earlier)); got < n*2/5 || got > n*4/5 {
			t.Fatalf("the earlier part has %d of %d failures", got, n)
		}
	})
}

func TestSampleHasFailuresOfTheWholePart(t *testing.T) {
	const size = 800
	inTime := make([]simulate.Call, 3*size)
	for i := range inTime {
		inTime[i] = simulate.NewCall(events.Call{Time: begin.Add(time.Duration(i)), Result: events.ResultSuccess})
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(size-2, 3*size).Draw(t, "calls")
		calls := slices.Clone(inTime[:n])
		failing := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, 30, rapid.ID).Draw(t, "failures")
		for _, i := range failing {
			calls[i] = simulate.NewCall(events.Call{Time: begin.Add(time.Duration(i)), Result: events.ResultFailure})
		}
		chosen := sample(calls, size)
		byTime := func(a, b simulate.Call) int { return a.Time().Compare(b.Time()) }
		if len(chosen) > size || !slices.IsSortedFunc(chosen, byTime) || len(slices.CompactFunc(slices.Clone(chosen), func(a, b simulate.Call) bool { return a == b })) != len(chosen) {
			t.Fatalf("a sample of %d of %d calls, or not in order", len(chosen), n)
		}
		if got, all := len(failuresIn(chosen)), len(failing); got < min(all, stretches)/2 {
			t.Fatalf("a sample with %d of %d failures", got, all)
		}
	})
}

func TestHasRecovery(t *testing.T) {
	healthy := "ssssssssssssssssssss" // 20
	for _, test := range []struct {
		name, calls string
		pause       time.Duration
		want        bool
	}{
		{"healthy", healthy, time.Second, false},
		{"until the end", healthy + "fff", time.Second, false},
		{"recovered", "fff" + healthy, time.Second, true},
		{"recovered between failures", "f" + healthy + "f", time.Second, true},
		{"too few calls", "fff" + healthy[1:], time.Second, false},
		{"too short", "fff" + healthy, 100 * time.Millisecond, false},
		{"flaky", "fssssssfssssssfsssssssfsssfsss", time.Second, false},
	} {
		if got := hasRecovery(callsOf(test.calls, test.pause)); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestRejectedCallsAreAssumedToEndLikeTheirNeighbours(t *testing.T) {
	letters := map[events.Result]string{events.ResultSuccess: "s", events.ResultFailure: "f", events.ResultRejected: "r", events.ResultCancelled: "c"}
	for calls, want := range map[string]string{
		"":         "",
		"rrr":      "rrr", // nothing is known
		"frrrrs":   "fffsss",
		"frrrs":    "ffsss",
		"frrrrfrs": "ffffffss",
		"rrs":      "sss",
		"ffrr":     "ffff",
		"frcrcrrs": "ffcfcsss",
		"c":        "c",
	} {
		got := ""
		for _, c := range assumeResults(callsOf(calls, time.Second)) {
			got += letters[c.Result()]
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", calls, got, want)
		}
	}
}
