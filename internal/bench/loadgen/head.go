package loadgen

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
)

// head is the part of a response's header section that the load generator uses.
type head struct {
	status int
	length int
	close  bool
}

var (
	contentLength    = []byte("content-length")
	connectionField  = []byte("connection")
	transferEncoding = []byte("transfer-encoding")
)

// readHead reads a response up to its body. It parses only what it needs and does not allocate, because the load
// generator shares the machine with the processes that it measures.
func readHead(r *bufio.Reader) (head, error) {
	h := head{length: -1}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return h, fmt.Errorf("read the status line: %w", err)
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return h, fmt.Errorf("not a status line: %q", line)
	}
	if h.status, err = number(line[9:12]); err != nil {
		return h, fmt.Errorf("status: %w", err)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return h, fmt.Errorf("read a header field: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, contentLength):
			if h.length, err = number(value); err != nil {
				return h, fmt.Errorf("content length: %w", err)
			}
		case bytes.EqualFold(name, connectionField):
			h.close = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, transferEncoding):
			return h, fmt.Errorf("transfer encoding %q: only responses with a Content-Length can be measured", value)
		}
	}
	if h.length < 0 {
		return h, fmt.Errorf("status %d without a Content-Length: only responses with one can be measured", h.status)
	}
	return h, nil
}

// number parses decimal digits.
func number(digits []byte) (int, error) {
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' || n > 1<<30 {
			return 0, fmt.Errorf("not a number: %s", strconv.Quote(string(digits)))
		}
		n = 10*n + int(d-'0')
	}
	if len(digits) == 0 {
		return 0, fmt.Errorf("no digits")
	}
	return n, nil
}
