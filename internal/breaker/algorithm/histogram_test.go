package algorithm

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// maxPercentileError is the documented relative error of a percentile.
const maxPercentileError = 0.05

// rankedSeconds returns the exact percentile of durations: the one of rank share * n, rounded up.
func rankedSeconds(durations []time.Duration, share float64) float64 {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[int(math.Ceil(share*float64(len(sorted))))-1].Seconds()
}

func TestPercentilesAreExactWithinTheirError(t *testing.T) {
	durations := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
		exponent := rapid.Float64Range(math.Log(float64(firstBucket)), math.Log(float64(time.Hour))).Draw(t, "exponent")
		return time.Duration(math.Exp(exponent))
	}), 0, 300)
	rapid.Check(t, func(t *rapid.T) {
		calls, h := durations.Draw(t, "durations"), new(histogram)
		for _, d := range calls {
			h[bucketOf(d)]++
		}
		shares := []float64{0.5, 0.95, 0.99}
		got := []float64{9, 9, 9}
		h.percentiles(uint32(len(calls)), shares, got)
		for i, share := range shares {
			if want := rankedSeconds(calls, share); math.Abs(got[i]-want) > maxPercentileError*want {
				t.Fatalf("p%v of %d calls: got %v s, want %v s", 100*share, len(calls), got[i], want)
			}
		}
	})
}

// Every bucket is as precise at its bounds, and durations out of the range are shown as its ends.
func TestBuckets(t *testing.T) {
	for d := firstBucket; d <= time.Hour; d += 1 + d/1000 {
		i := bucketOf(d)
		if got, want := bucketSeconds[i], d.Seconds(); math.Abs(got-want) > maxPercentileError*want {
			t.Fatalf("%v is shown as %v s", d, got)
		}
		if i > 0 && bucketOf(d-1) > i {
			t.Fatalf("buckets do not grow at %v", d)
		}
	}
	for d, want := range map[time.Duration]int{-1: 0, 0: 0, 1: 0, firstBucket: 0, firstBucket + 1: 1, 2 * time.Hour: bucketCount - 1, math.MaxInt64: bucketCount - 1} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
	if first, last := bucketSeconds[0], bucketSeconds[bucketCount-1]; first != 0.0001 || last < time.Hour.Seconds() || last > 1.1*time.Hour.Seconds() {
		t.Errorf("the ends are %v s and %v s", first, last)
	}
}
