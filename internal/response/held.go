package response

import (
	"io"
	"slices"
)

// Sizes in bytes of what is read of a body before its header section is sent.
const (
	heldBytes   = 4 << 10
	minHeldRead = 512 // the smallest buffer of a read
	// maxHeld is how much may be read before enough is true.
	maxHeld = 64 << 10
)

// Held is the first part of a body, which is read before its header section is sent. The zero Held is empty. It is not safe for
// concurrent use.
type Held struct {
	data []byte
	err  error // that came with data
}

// Fill reads until something has been read and enough is true, or the body ends, or 64 KiB have been read. It returns an error of read
// other than io.EOF if that came before.
func (h *Held) Fill(read func([]byte) (int, error), enough func() bool) error {
	data := make([]byte, 0, heldBytes)
	for {
		if cap(data)-len(data) < minHeldRead {
			data = slices.Grow(data, heldBytes)
		}
		n, err := read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		complete := len(data) > 0 && enough()
		if err == nil && !complete && len(data) < maxHeld {
			continue
		}
		if err != nil && err != io.EOF && !complete {
			return err
		}
		h.data, h.err = data, err
		return nil
	}
}

// IsEmpty reports whether all of it has been read with Read.
func (h *Held) IsEmpty() bool { return len(h.data) == 0 && h.err == nil }

// Read implements io.Reader. At the end it returns the error of the body's read, nil if there is more to read from the body.
func (h *Held) Read(p []byte) (int, error) {
	n := copy(p, h.data)
	if h.data = h.data[n:]; len(h.data) > 0 {
		return n, nil
	}
	h.data = nil
	return n, h.err
}
