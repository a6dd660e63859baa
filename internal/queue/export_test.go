package queue

// For tests of what is stored.
var (
	Encode = encode
	Decode = decode
)
