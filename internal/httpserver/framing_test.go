package httpserver

import (
	"bytes"
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
func wantResult(data []byte) (codings, ambiguous bool) {
	var length, coding bool
	for _, line := range bytes.Split(data, []byte("\n")) {
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
	return codings, ambiguous
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
		if whole != pieces && (whole.sawTransferEncoding != pieces.sawTransferEncoding || whole.ambiguous != pieces.ambiguous || whole.isHTTP2() != pieces.isHTTP2()) {
			t.Errorf("whole %+v, in pieces %+v", whole, pieces)
		}
		if codings, ambiguous := wantResult(data); whole.sawTransferEncoding != codings || whole.ambiguous != ambiguous {
			t.Errorf("got %+v, want codings %v, ambiguous %v", whole, codings, ambiguous)
		}
		if whole.isHTTP2() != strings.HasPrefix(string(data), http2Preface) {
			t.Errorf("HTTP/2: %v", whole.isHTTP2())
		}
	})
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
