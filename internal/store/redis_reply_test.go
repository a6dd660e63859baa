package store

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

func newScanner() *replyScanner {
	return &replyScanner{limit: func() int64 { return minReplyLimit + 1<<20 }}
}

// replies are valid replies, or the beginnings of valid ones.
var replies = []string{
	"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$2\r\nab\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "*1\r\n", "*2\r\n+a\r\n$1\r\nb\r\n", "$9\r\n*99999999\r\n",
	"_\r\n", ",1.5\r\n", "#t\r\n", "(123\r\n", "!5\r\nERR a\r\n", "=5\r\ntxt:a\r\n", "%1\r\n+a\r\n:1\r\n", "~1\r\n+a\r\n", ">2\r\n+message\r\n+a\r\n",
	"|1\r\n+a\r\n+b\r\n+c\r\n", strings.Repeat("*1\r\n", maxReplyDepth) + ":1\r\n:2\r\n", "*131072\r\n", strings.Repeat("$1000000\r\n"+strings.Repeat("a", 1_000_002), 20),
	"*9\r\n" + strings.Repeat("$1000000\r\n"+strings.Repeat("a", 1_000_002), 9), strings.Repeat("|1\r\n+a\r\n+b\r\n+c\r\n", 50), "+" + strings.Repeat("a", maxReplyLine-1) + "\r\n",
}

// invalidReplies are streams that must not reach the client library completely, by a word of the expected error.
var invalidReplies = map[string][]string{
	"elements": {
		"*1000000000\r\n", "~1000000000\r\n", ">1000000000\r\n", "%1000000000\r\n", "|1000000000\r\n", "%65537\r\n", "*131073\r\n",
		"*70000\r\n:1\r\n*70000\r\n", strings.Repeat("*100000\r\n", 3), "*2\r\n$1\r\na\r\n*1000000000\r\n", "+OK\r\n*1000000000\r\n",
		"|1\r\n+a\r\n*1000000000\r\n", "*999999999999999999\r\n", "%999999999999999999\r\n",
	},
	"bytes": {"$1000000000\r\n", "=1000000000\r\n", "!1000000000\r\n", "$999999999999999999\r\n", "*2\r\n$5000000\r\n" + strings.Repeat("a", 5_000_002) + "$5000000\r\n"},
	"levels": {
		strings.Repeat("*1\r\n", maxReplyDepth+1), strings.Repeat("%1\r\n+a\r\n", maxReplyDepth+1),
		strings.Repeat(">1\r\n", maxReplyDepth+1), "*1\r\n" + strings.Repeat("|1\r\n", maxReplyDepth),
	},
	"attributes": {strings.Repeat("|0\r\n", maxReplyDepth+1), strings.Repeat("|1\r\n+a\r\n+b\r\n", maxReplyDepth+1), strings.Repeat("|1\r\n", maxReplyDepth+1)},
	"line":       {"+" + strings.Repeat("a", maxReplyLine+1), "(" + strings.Repeat("9", maxReplyLine+1), "+a\n", "-a\n"},
	"length": {
		"*\r\n", "$\r\n", "*-2\r\n", "$-\r\n", "*--1\r\n", "*1a\r\n", "$?\r\n", "*?\r\n", "*+1\r\n", "* 1\r\n", "*1\n", "*1\rx", "*1\r\r\n", "*-10\r\n",
		"*9223372036854775806\r\n", "$9223372036854775807\r\n", "*18446744073709551617\r\n", "*0000000000000000000001\r\n",
	},
	"type": {"x\r\n", "\r\n", ";1\r\n", ".\r\n", "HTTP/1.1 400 Bad Request\r\n", "\x00"},
}

func TestRepliesWithinLimitsPass(t *testing.T) {
	for _, r := range replies {
		for _, size := range []int{1, 3, len(r)} {
			if err := scanInPieces(newScanner(), []byte(r), size); err != nil {
				t.Errorf("%.60q in pieces of %d: %v", r, size, err)
			}
		}
		if strings.HasPrefix(r, "*1\r\n") || r == "*131072\r\n" {
			continue // not a whole reply
		}
		s := newScanner()
		if err := scanInPieces(s, []byte(r), len(r)); err != nil || s.insideReply() || s.reply.elements > 0 || s.reply.bytes > 0 || s.reply.attributes > 0 {
			t.Errorf("%.60q: %v, the scanner is within a reply: %+v", r, err, s)
		}
	}
}

func TestRepliesBeyondLimitsAreRejected(t *testing.T) {
	for what, streams := range invalidReplies {
		for _, r := range streams {
			for _, size := range []int{1, 7, len(r)} {
				if err := scanInPieces(newScanner(), []byte(r), size); err == nil || !strings.Contains(err.Error(), what) {
					t.Errorf("%.60q in pieces of %d: %v, want %s", r, size, err, what)
				}
			}
		}
	}
}

func scanInPieces(s *replyScanner, p []byte, size int) error {
	for len(p) > 0 {
		n, err := s.scan(p[:min(size, len(p))])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func TestScanningAllocatesLittle(t *testing.T) {
	stream, s := claimReply(100, 1000), newScanner()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.scan(stream); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// claimReply returns a reply of the script that claims copies.
func claimReply(records, size int) []byte {
	var b bytes.Buffer
	b.WriteString("*" + strconv.Itoa(records) + "\r\n")
	for range records {
		b.WriteString("*4\r\n$3\r\n1-1\r\n$3\r\na/1\r\n$1\r\n7\r\n$" + strconv.Itoa(size) + "\r\n" + strings.Repeat("x", size) + "\r\n")
	}
	return b.Bytes()
}

func BenchmarkReplyScanner(b *testing.B) {
	for _, size := range []int{10, 1000, 100_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			stream, s := claimReply(50, size), newScanner()
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				if _, err := s.scan(stream); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
