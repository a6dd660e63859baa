package algorithm

import (
	"math"
	"time"
)

// The buckets of a histogram grow by a factor of 1.1, from 100 µs to more than an hour. A value within a bucket is shown as the one
// whose relative error is the smallest, so the error is at most (1.1 - 1) / (1.1 + 1) < 4.8 %.
const (
	firstBucket  = 100 * time.Microsecond // upper bound of the first bucket, and what its values are shown as
	bucketGrowth = 1.1
	bucketCount  = 185 // the last one is for everything from about 62 minutes on
)

// histogram counts durations in buckets of logarithmic width.
type histogram [bucketCount]uint32

var logOfGrowth = math.Log(bucketGrowth)

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	if d <= firstBucket {
		return 0
	}
	i := math.Ceil(math.Log(float64(d)/float64(firstBucket)) / logOfGrowth)
	return int(min(i, bucketCount-1))
}

// bucketSeconds are the durations as which the buckets are shown, in seconds.
var bucketSeconds = func() (seconds [bucketCount]float64) {
	for i := range seconds {
		// 2·low·high / (low + high), where high is low * bucketGrowth
		seconds[i] = firstBucket.Seconds() * math.Pow(bucketGrowth, float64(i-1)) * 2 * bucketGrowth / (1 + bucketGrowth)
	}
	seconds[0] = firstBucket.Seconds()
	seconds[bucketCount-1] = firstBucket.Seconds() * math.Pow(bucketGrowth, bucketCount-2) // its lower bound
	return seconds
}()

func (h *histogram) add(o *histogram) {
	for i := range h {
		h[i] += o[i]
	}
}

func (h *histogram) sub(o *histogram) {
	for i := range h {
		h[i] -= o[i]
	}
}

// percentiles sets each of seconds to the duration that the share shares[i] of the n counted values do not exceed: the value whose
// rank is shares[i] * n, rounded up. shares are in ascending order and above 0. Without values, they are 0.
func (h *histogram) percentiles(n uint32, shares []float64, seconds []float64) {
	clear(seconds)
	if n == 0 {
		return
	}
	next, seen := 0, uint32(0)
	for i := range h {
		if h[i] == 0 {
			continue
		}
		for seen += h[i]; float64(seen) >= math.Ceil(shares[next]*float64(n)); {
			seconds[next] = bucketSeconds[i]
			if next++; next == len(shares) {
				return
			}
		}
	}
}
