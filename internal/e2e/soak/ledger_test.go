package soak

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ledger compares the requests sent with those received by upstreams.
type ledger struct {
	ids atomic.Uint64

	mu    sync.Mutex
	asked map[uint64]*question
	had   map[uint64]*hits
	turns int // lines of upstreams' records so far

	accepted, delivered, duplicates, unsure int // of the queue; belong to the test's goroutine
}

// hits is what the upstreams received of one request.
type hits struct {
	direct, deliveries int
	spare              int // at the second upstream
	taken              int // answered well and in whole
	first              int // when that was for the first time, in lines
	sum                uint32
	seen               bool // sum is known: it has come in whole
	key                string
	mixed              bool // it came with different bodies or keys
}

func (l *ledger) ask(q *question) {
	q.id = l.ids.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked, l.had = map[uint64]*question{}, map[uint64]*hits{}
	}
	l.asked[q.id] = q
}

// read takes in what an upstream has written down since it was read last.
func (s *soak) readRecord(u *soakUpstream, spare bool) {
	f, err := os.Open(u.file)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(u.read, io.SeekStart); err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	u.read += int64(len(text))
	for line := range strings.Lines(string(text)) {
		s.ledger.turns++
		s.ledger.enter(s, strings.Fields(line), spare)
	}
}

func (l *ledger) enter(s *soak, f []string, spare bool) {
	if len(f) != 6 {
		s.t.Fatalf("the record has a line %q", f)
	}
	if f[1] == "-" {
		s.complain("a stranger", "an upstream had %q", f)
		return
	}
	id, _ := strconv.ParseUint(f[1], 10, 64)
	sum, _ := strconv.ParseUint(f[4], 16, 32)
	h := l.had[id]
	if h == nil {
		h = new(hits)
		l.had[id] = h
	}
	if f[0] == "a" {
		h.mixed = h.mixed || h.seen && h.sum != uint32(sum)
		h.sum, h.seen = uint32(sum), true
	}
	switch {
	case f[0] == "w" && !spare:
		if h.taken++; h.taken == 1 {
			h.first = l.turns
		}
	case f[0] == "w":
	case spare:
		h.spare++
	case f[3] != "0":
		h.deliveries++
		h.mixed = h.mixed || h.deliveries > 1 && h.key != f[5]
		h.key = f[5]
	default:
		h.direct++
	}
}

// check compares all requests. Call it when no request is in flight.
func (l *ledger) check(s *soak) {
	for name, u := range s.upstreams {
		s.readRecord(u, name == "spare")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted, l.delivered, l.duplicates, l.unsure = 0, 0, 0, 0
	for id, h := range l.had {
		if l.asked[id] == nil {
			s.complain("never sent", "#%d was had by an upstream: %+v", id, *h)
		}
	}
	for id, q := range l.asked {
		h := l.had[id]
		if h == nil {
			h = new(hits)
		}
		l.compare(s, q, h)
	}
	l.checkOrder(s)
}

func (l *ledger) compare(s *soak, q *question, h *hits) {
	most := 1
	if q.method == "GET" {
		most = 2 + q.route.retries // one on a connection that the upstream had already closed
	}
	if h.direct > most && !q.disturbed {
		s.complain("asked again", "%v came %d times", q, h.direct)
	}
	if h.spare > most && !q.disturbed {
		s.complain("asked again", "%v came to the second upstream %d times", q, h.spare)
	}
	if q.faulty && (h.taken > 0 || h.deliveries > 0) {
		s.complain("never whole", "%v came to the upstream in whole: %+v", q, *h)
	}
	queued := q.strategy == "queue" && q.status == 202
	switch {
	case queued:
		l.accepted++
		if h.taken > 0 {
			l.delivered++
		} else {
			s.complain("lost", "%v was accepted and never delivered: %+v", q, *h)
		}
		l.duplicates += max(h.taken-1, 0)
		if h.mixed || h.sum != q.sum || q.key != "" && h.deliveries > 0 && h.key != q.key {
			s.complain("mixed up", "%v was delivered with another body or key: %+v, sent was %08x %q", q, *h, q.sum, q.key)
		}
	case q.certain() && h.deliveries > 0:
		s.complain("never accepted", "%v was answered with %d and delivered: %+v", q, q.status, *h)
	case h.deliveries > 0:
		l.unsure++
		if q.route.service != "notifier_service" {
			s.complain("never accepted", "%v has no queue and was delivered: %+v", q, *h)
		}
	}
}

// checkOrder checks that nothing that one client sent to an elder, one after the other, was overtaken;
// save where others took something over, which they put behind their own.
func (l *ledger) checkOrder(s *soak) {
	last := map[string]*question{}
	for id := uint64(1); id <= l.ids.Load(); id++ {
		q, h := l.asked[id], l.had[id]
		if q == nil || h == nil || q.from == "" || h.taken == 0 || q.status == 0 || q.broken {
			continue
		}
		if q.status >= 300 || s.fleet[q.instance].surrendered {
			continue
		}
		if before := last[q.from]; before != nil && h.first < l.had[before.id].first {
			s.complain("overtaken", "%v (%d, %+v) has overtaken %v (%d, %+v)", q, q.status, *h, before, before.status, *l.had[before.id])
		}
		last[q.from] = q
	}
}
