package http1

import (
	"bytes"
	"net/http"
	"strings"
)

// ConnectionFields finds the Connection fields in the header sections of one HTTP/1 response, those of its interim responses
// included. http.ReadResponse deletes a Connection field that has the option close, and with it the names of the other fields
// that the field declares hop-by-hop. The zero ConnectionFields has found nothing and expects the first byte of a response. It
// gives the same result however the bytes are split. It is not safe for concurrent use.
type ConnectionFields struct {
	line  []byte           // of the current line: all of it if it is of a Connection field, else the first linePrefix bytes
	space [linePrefix]byte // where line stands if it is short

	inFields     bool // the status line is complete
	interim      bool // the status is that of an interim response
	inConnection bool // the last complete line is of a Connection field
	done         bool // the final header section is complete
	value        string

	interims []string // of the interim responses that RestoreInterim has not been called for
	final    string
}

const (
	connectionPrefix = "connection:"
	linePrefix       = 32 // bytes, enough for a status line up to its status
)

// Reset makes f expect the first byte of another response.
func (f *ConnectionFields) Reset() { *f = ConnectionFields{line: f.line[:0]} }

// Scan reads the bytes that have come next, and reports whether more are needed. It retains nothing of p.
func (f *ConnectionFields) Scan(p []byte) (more bool) {
	for len(p) > 0 && !f.done {
		line, rest, whole := bytes.Cut(p, lineFeed)
		f.add(line)
		if whole {
			f.endLine()
		}
		p = rest
	}
	return !f.done
}

var lineFeed = []byte("\n")

// add appends a part of the current line, as far as it is needed.
func (f *ConnectionFields) add(part []byte) {
	if f.line == nil {
		f.line = f.space[:0]
	}
	if missing := linePrefix - len(f.line); missing > 0 {
		n := min(missing, len(part))
		f.line = append(f.line, part[:n]...)
		part = part[n:]
	}
	if len(part) > 0 && f.isConnection() {
		f.line = append(f.line, part...)
	}
}

// isConnection reports whether the current line is of a Connection field: its first one, or one that continues it (RFC 9112,
// section 5.2).
func (f *ConnectionFields) isConnection() bool {
	switch {
	case !f.inFields || len(f.line) == 0:
		return false
	case f.line[0] == ' ' || f.line[0] == '\t':
		return f.inConnection
	}
	return len(f.line) >= len(connectionPrefix) && strings.EqualFold(string(f.line[:len(connectionPrefix)]), connectionPrefix)
}

// endLine evaluates the current line, which is complete.
func (f *ConnectionFields) endLine() {
	line := bytes.TrimSuffix(f.line, []byte("\r"))
	switch {
	case !f.inFields:
		f.inFields = true
		_, status, _ := strings.Cut(string(line), " ")
		status = strings.TrimLeft(status, " ") // as http.ReadResponse does
		f.interim = strings.HasPrefix(status, "1") && !strings.HasPrefix(status, "101")
	case len(line) == 0:
		f.endSection()
	default:
		if f.inConnection = f.isConnection(); !f.inConnection {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			line = line[len(connectionPrefix):]
			f.value += ","
		}
		f.value += " " + string(bytes.Trim(line, " \t"))
	}
	f.line = f.line[:0]
}

func (f *ConnectionFields) endSection() {
	if f.interim {
		f.interims = append(f.interims, f.value)
	} else {
		f.final, f.done = f.value, true
	}
	f.inFields, f.inConnection, f.value = false, false, ""
}

// Restore puts the Connection field of res back into its header, if it was deleted. It is called for each response, in their
// order.
func (f *ConnectionFields) Restore(res *http.Response) {
	if res.StatusCode >= 100 && res.StatusCode <= 199 && res.StatusCode != http.StatusSwitchingProtocols {
		f.RestoreInterim(res.Header)
	} else {
		f.RestoreFinal(res.Header)
	}
}

// RestoreInterim puts the Connection field of the next interim response back into that one's header, if it was deleted. It is
// called once for each interim response, in their order.
func (f *ConnectionFields) RestoreInterim(h http.Header) {
	if len(f.interims) > 0 {
		restoreConnection(h, f.interims[0])
		f.interims = f.interims[1:]
	}
}

// RestoreFinal puts the Connection field of the final response back into that one's header, if it was deleted.
func (f *ConnectionFields) RestoreFinal(h http.Header) { restoreConnection(h, f.final) }

func restoreConnection(h http.Header, value string) {
	value = strings.Trim(value, ", ")
	if value != "" && !strings.EqualFold(value, "close") && h["Connection"] == nil {
		h["Connection"] = []string{value}
	}
}
