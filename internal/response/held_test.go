package response

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// What has been held is returned unchanged, with the error that came with it.
func TestHeld(t *testing.T) {
	broken := errors.New("broken")
	long := strings.Repeat("x", maxHeld)
	for name, c := range map[string]struct {
		body   io.Reader
		enough int // bytes
		want   string
		err    error // of Fill
		end    error // of the last Read
	}{
		"first bytes":             {strings.NewReader("hello"), 0, "hello", nil, nil},
		"enough":                  {iotest.OneByteReader(strings.NewReader("hello")), 3, "hel", nil, nil},
		"several buffers":         {iotest.OneByteReader(strings.NewReader(long)), 10_000, long[:10_000], nil, nil},
		"ends before":             {iotest.DataErrReader(strings.NewReader("hello")), 10, "hello", nil, io.EOF},
		"empty":                   {strings.NewReader(""), 0, "", nil, io.EOF},
		"breaks off":              {io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken)), 10, "", broken, nil},
		"breaks off with enough":  {iotest.DataErrReader(io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken))), 5, "hello", nil, broken},
		"too much to hold it all": {iotest.OneByteReader(strings.NewReader(long + "more")), 1 << 20, long, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var h Held
			read := 0
			err := h.Fill(func(p []byte) (int, error) {
				n, err := c.body.Read(p)
				read += n
				return n, err
			}, func() bool { return read >= c.enough })
			if err != c.err {
				t.Fatalf("%v, want %v", err, c.err)
			}
			var got []byte
			for err == nil && !h.IsEmpty() {
				piece := make([]byte, 7)
				var n int
				n, err = h.Read(piece)
				got = slices.Concat(got, piece[:n])
			}
			if string(got) != c.want || c.err == nil && err != c.end {
				t.Errorf("%d bytes %.20q, %v; want %d bytes, %v", len(got), got, err, len(c.want), c.end)
			}
		})
	}
}
