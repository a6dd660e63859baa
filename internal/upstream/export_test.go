package upstream

// Interleave and Worse are interleave and worse.
var (
	Interleave = interleave
	Worse      = worse
)
