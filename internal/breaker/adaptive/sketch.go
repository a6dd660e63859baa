package adaptive

import (
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

const (
	// accuracy is the relative error of the quantiles.
	accuracy = 0.02
	// maxBins is the largest number of bins of a sketch. The longest durations have bins of their own down to a 25,000th of the longest
	// one; all that are shorter share one.
	maxBins = 256
	// maxIndex is larger than the index of the bin of any duration, from a nanosecond to 292 years, and of either sign.
	maxIndex = 1000
)

// durationMapping assigns durations in seconds to bins. It needs no logarithm.
var durationMapping, _ = mapping.NewCubicallyInterpolatedMapping(accuracy) // fails for other accuracies only

// newSketch returns an empty sketch of durations.
func newSketch() *ddsketch.DDSketch {
	return ddsketch.NewDDSketchFromStoreProvider(durationMapping, func() store.Store { return store.NewCollapsingLowestDenseStore(maxBins) })
}

// bins are the contents of a sketch in less memory, as they are stored, too. They are not modified.
type bins struct {
	First  int      `json:"first"` // the index of the first bin
	Counts []uint32 `json:"counts"`
}

// binsOf returns the contents of a sketch.
func binsOf(s *ddsketch.DDSketch) bins {
	values := s.GetPositiveValueStore()
	first, err := values.MinIndex()
	if err != nil {
		return bins{} // the sketch is empty
	}
	last, _ := values.MaxIndex()
	b := bins{First: first, Counts: make([]uint32, last-first+1)}
	values.ForEach(func(index int, count float64) bool {
		b.Counts[index-first] = uint32(min(count, math.MaxUint32))
		return false
	})
	return b
}

// addTo adds the contents to those of a sketch.
func (b bins) addTo(s *ddsketch.DDSketch) {
	for i, count := range b.Counts {
		s.GetPositiveValueStore().AddWithCount(b.First+i, float64(count))
	}
}

// valid reports whether a sketch can have these contents.
func (b bins) valid() bool {
	return len(b.Counts) <= maxBins && b.First >= -maxIndex && b.First+len(b.Counts) <= maxIndex
}
