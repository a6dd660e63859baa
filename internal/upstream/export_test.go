package upstream

// Interleave and PreferredError are interleave and preferredError.
var (
	Interleave     = interleave
	PreferredError = preferredError
)
