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

// requestLog has the requests that the clients have sent and those that the upstreams have received.
type requestLog struct {
	lastID atomic.Uint64

	mu       sync.Mutex
	sent     map[uint64]*request  // by id; guarded by mu
	received map[uint64]*received // by id; guarded by mu
	lines    int                  // lines read of all upstreams' records; used by the test's goroutine only

	queued queuedCounts // as of the latest check; used by the test's goroutine only
}

// queuedCounts counts queued requests.
type queuedCounts struct {
	accepted   int // answered with 202
	delivered  int // of accepted
	duplicates int // repeated deliveries
	unknown    int // requests that were delivered and whose client does not know the result
}

// received is what the upstreams have received of one request.
type received struct {
	direct        int // received from the proxy's request path
	deliveries    int // received from the queue
	secondary     int // received by the secondary upstream
	successes     int // answered completely with success
	firstSuccess  int // number of the line in the upstreams' records
	bodySum       uint32
	bodyComplete  bool // bodySum is valid
	key           string
	contradictory bool // received with different bodies or keys
}

// add assigns an id to a request and adds it.
func (l *requestLog) add(req *request) {
	req.id = l.lastID.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent == nil {
		l.sent, l.received = map[uint64]*request{}, map[uint64]*received{}
	}
	l.sent[req.id] = req
}

// check reads the upstreams' records and compares all requests. Call it when no request is in flight.
func (l *requestLog) check(s *soakTest) {
	for name, u := range s.upstreams {
		l.readRecord(s, u, name == secondaryUpstream)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued = queuedCounts{}
	for id, r := range l.received {
		if l.sent[id] == nil {
			s.reportf("unknown request", "an upstream received #%d: %+v", id, *r)
		}
	}
	for id, req := range l.sent {
		r := l.received[id]
		if r == nil {
			r = new(received)
		}
		l.compare(s, req, r)
	}
	l.checkOrder(s)
}

// readRecord reads what an upstream has recorded since the previous call.
func (l *requestLog) readRecord(s *soakTest, u *upstream, secondary bool) {
	f, err := os.Open(u.file)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(u.bytesRead, io.SeekStart); err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	u.bytesRead += int64(len(text))
	for line := range strings.Lines(string(text)) {
		l.lines++
		l.addRecord(s, strings.Fields(line), secondary)
	}
}

// addRecord adds a line of an upstream's record, which upstreamServer.record has written.
func (l *requestLog) addRecord(s *soakTest, fields []string, secondary bool) {
	if len(fields) != 6 {
		s.t.Fatalf("invalid record %q", fields)
	}
	event, attempt, key := fields[0], fields[3], fields[5]
	if fields[1] == "-" {
		s.reportf("request without an id", "an upstream received %q", fields)
		return
	}
	id, _ := strconv.ParseUint(fields[1], 10, 64)
	sum, _ := strconv.ParseUint(fields[4], 16, 32)
	r := l.received[id]
	if r == nil {
		r = new(received)
		l.received[id] = r
	}
	if event == string(eventComplete) {
		r.contradictory = r.contradictory || r.bodyComplete && r.bodySum != uint32(sum)
		r.bodySum, r.bodyComplete = uint32(sum), true
	}
	switch {
	case event == string(eventSuccess) && !secondary:
		if r.successes++; r.successes == 1 {
			r.firstSuccess = l.lines
		}
	case event == string(eventSuccess):
	case secondary:
		r.secondary++
	case attempt != "0":
		r.deliveries++
		r.contradictory = r.contradictory || r.deliveries > 1 && r.key != key
		r.key = key
	default:
		r.direct++
	}
}

// compare compares a request with what the upstreams received of it.
func (l *requestLog) compare(s *soakTest, req *request, r *received) {
	maxAttempts := 1
	if req.method == "GET" {
		maxAttempts = 2 + req.route.retries // one attempt may be on a connection that the upstream has closed
	}
	if r.direct > maxAttempts && !req.instanceDown {
		s.reportf("too many attempts", "the upstream received %v %d times", req, r.direct)
	}
	if r.secondary > maxAttempts && !req.instanceDown {
		s.reportf("too many attempts", "the secondary upstream received %v %d times", req, r.secondary)
	}
	if req.invalid && (r.successes > 0 || r.deliveries > 0) {
		s.reportf("invalid request forwarded", "%v: %+v", req, *r)
	}
	queued := req.strategy == "queue" && req.status == 202
	switch {
	case queued:
		l.queued.accepted++
		if r.successes > 0 {
			l.queued.delivered++
		} else {
			s.reportf("lost request", "%v was queued and not delivered: %+v", req, *r)
		}
		l.queued.duplicates += max(r.successes-1, 0)
		if r.contradictory || r.bodySum != req.bodySum || req.idempotencyKey != "" && r.deliveries > 0 && r.key != req.idempotencyKey {
			s.reportf("modified request", "%v was delivered with another body or key: %+v, sent with %08x %q", req, *r, req.bodySum, req.idempotencyKey)
		}
	case req.resultKnown() && r.deliveries > 0:
		s.reportf("delivery of a rejected request", "%v had the response %d and was delivered: %+v", req, req.status, *r)
	case r.deliveries > 0:
		l.queued.unknown++
		if req.route.service != "notifier_service" {
			s.reportf("delivery without a queue", "%v: %+v", req, *r)
		}
	}
}

// checkOrder checks that the requests of a client that sends one after another to a stable instance are delivered in that
// order. It ignores instances whose queue was taken over, because other instances append such requests to their own.
func (l *requestLog) checkOrder(s *soakTest) {
	last := map[string]*request{}
	for id := uint64(1); id <= l.lastID.Load(); id++ {
		req, r := l.sent[id], l.received[id]
		if req == nil || r == nil || req.sequence == "" || r.successes == 0 || req.status == 0 || req.truncated {
			continue
		}
		if req.status >= 300 || s.fleet[req.instance].queueTakenOver {
			continue
		}
		if previous := last[req.sequence]; previous != nil && r.firstSuccess < l.received[previous.id].firstSuccess {
			s.reportf("wrong order", "%v (%d, %+v) was delivered before %v (%d, %+v)", req, req.status, *r, previous, previous.status, *l.received[previous.id])
		}
		last[req.sequence] = req
	}
}
