package queue

// Exported for tests of the stored format.
var (
	Encode = encode
	Decode = decode
)
