package httpserver

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

// scanInPieces passes data to a scanner in pieces and returns the scanner. Each of sizes is one less than the length of a piece;
// they are used cyclically. Without sizes there is one piece.
func scanInPieces(data, sizes []byte) framingScanner {
	var s framingScanner
	for i := 0; len(data) > 0; i++ {
		n := len(data)
		if len(sizes) > 0 {
			n = min(n, int(sizes[i%len(sizes)])+1)
		}
		s.scan(data[:n])
		data = data[n:]
	}
	return s
}

// wantResult computes from whole lines what a scanner must report for data.
func wantResult(data []byte) (codings, ambiguous, afterEmptyLine bool) {
	var length, coding bool
	lines := bytes.Split(data, []byte("\n"))
	if n := len(lines); n > 1 && len(lines[n-1]) == 0 {
		afterEmptyLine = len(lines[n-2]) == 0 || string(lines[n-2]) == "\r"
	}
	for _, line := range lines {
		line = bytes.ToLower(line)
		switch {
		case len(line) == 0, string(line) == "\r":
			length, coding = false, false
		case bytes.HasPrefix(line, []byte("content-length:")):
			length = true
		case bytes.HasPrefix(line, []byte("transfer-encoding:")):
			coding, codings = true, true
		}
		ambiguous = ambiguous || length && coding
	}
	return codings, ambiguous, afterEmptyLine
}

func FuzzFramingScanner(f *testing.F) {
	for _, data := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\nTRANSFER-encoding: chunked\nA: b\ncontent-LENGTH: 5\n\n",
		"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Content-Length: 5\r\n\r\r\nTransfer-Encoding: chunked\r\n\r\n",
		"\r\rTransfer-Encoding:\r\n\rcontent-length:\ncontent-length :\ncontent-lengthcontent-length:\n",
		"ctransfer-encoding:\nccontent-length:\ntcontent-length:\n\xe3ontent-length:\nContent\rLength:\n",
		http2Preface + "content-length:\ntransfer-encoding:\n",
		http2Preface[:20] + "\r\n\r\n",
	} {
		f.Add([]byte(data), []byte{0})
		f.Add([]byte(data), []byte{7, 0, 30})
	}
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		whole, pieces := scanInPieces(data, nil), scanInPieces(data, sizes)
		if whole.afterEmptyLine != pieces.afterEmptyLine {
			t.Errorf("after an empty line: whole %v, in pieces %v", whole.afterEmptyLine, pieces.afterEmptyLine)
		}
		if whole != pieces && (whole.sawTransferEncoding != pieces.sawTransferEncoding || whole.ambiguous != pieces.ambiguous || whole.isHTTP2() != pieces.isHTTP2()) {
			t.Errorf("whole %+v, in pieces %+v", whole, pieces)
		}
		codings, ambiguous, afterEmptyLine := wantResult(data)
		if whole.sawTransferEncoding != codings || whole.ambiguous != ambiguous || whole.afterEmptyLine != afterEmptyLine {
			t.Errorf("got %+v, want codings %v, ambiguous %v, after an empty line %v", whole, codings, ambiguous, afterEmptyLine)
		}
		if whole.isHTTP2() != strings.HasPrefix(string(data), http2Preface) {
			t.Errorf("HTTP/2: %v", whole.isHTTP2())
		}
	})
}

// TestBodyArrivingNeedsBodyBytes checks that BodyArriving is false while only the header section has been read, in however many
// reads, and that it is true after bytes of the body.
func TestBodyArrivingNeedsBodyBytes(t *testing.T) {
	for _, header := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "POST / HTTP/1.1\nHost: x\nContent-Length: 3\n\n"} {
		for split := 1; split < len(header); split++ {
			server, client := net.Pipe()
			c := &Conn{Conn: server}
			c.isHTTP1.Store(true)
			go func() {
				for _, part := range []string{header[:split], header[split:], "abc"} {
					_, _ = client.Write([]byte(part))
				}
			}()
			p := make([]byte, 4<<10)
			for n := 0; n < len(header); {
				k, err := c.Read(p)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
			if c.BodyArriving() {
				t.Errorf("%q and %q: true without a byte of the body", header[:split], header[split:])
			}
			if _, err := c.Read(p); err != nil || !c.BodyArriving() {
				t.Errorf("%q and %q: false with the body, error %v", header[:split], header[split:], err)
			}
			_, _ = client.Close(), server.Close()
		}
	}
}

// BenchmarkFramingScanner measures the scan of a browser's header section and of a JSON body.
func BenchmarkFramingScanner(b *testing.B) {
	head := []byte("GET /rag/documents/42?fields=title,body HTTP/1.1\r\nHost: rag.example:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Content-Type: application/json\r\nContent-Length: 27\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\r\n")
	b.Run("head", func(b *testing.B) {
		var s framingScanner
		b.SetBytes(int64(len(head)))
		for b.Loop() {
			s.scan(head)
		}
	})
	b.Run("JSON body", func(b *testing.B) {
		body := bytes.Repeat([]byte("  {\"title\": \"a document\", \"score\": 0.25},\n"), 800)
		var s framingScanner
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			s.scan(body)
		}
	})
}
