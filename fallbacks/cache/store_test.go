package cache

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/fallbacks"
	"cbproxy/routes"
)

// query identifies a request.
type query struct{ path, accept string }

func (q query) request() *fallbacks.Request {
	return &fallbacks.Request{Method: http.MethodGet, Path: q.path, Header: http.Header{"Accept": {q.accept}}}
}

// start returns a started strategy. previous may be nil.
func start(previous fallbacks.Strategy, o *Options) *Strategy {
	s, err := New(o, fallbacks.Env{Previous: previous})
	if err != nil {
		panic(err)
	}
	started := s.(*Strategy)
	started.Start()
	return started
}

// model is a simple implementation of the cache: a list of entries from the least to the most
// recently used.
type model struct {
	bounds  bounds
	entries []modelEntry
	evicted uint64
}

type modelEntry struct {
	query query
	body  string
	size  int64
	entry *entry
}

func (m *model) bytes() (n int64) {
	for _, e := range m.entries {
		n += e.size
	}
	return n
}

func (m *model) take(q query) (e modelEntry, ok bool) {
	i := slices.IndexFunc(m.entries, func(e modelEntry) bool { return e.query == q })
	if i < 0 {
		return e, false
	}
	e = m.entries[i]
	m.entries = slices.Delete(m.entries, i, i+1)
	return e, true
}

func (m *model) trim() {
	for len(m.entries) > m.bounds.entries || m.bytes() > m.bounds.bytes {
		m.entries = m.entries[1:]
		m.evicted++
	}
}

func (m *model) put(e modelEntry) {
	if e.size <= m.bounds.bytes {
		m.take(e.query)
		m.entries = append(m.entries, e)
		m.trim()
	}
}

func (m *model) get(q query) string {
	e, ok := m.take(q)
	if !ok || time.Since(e.entry.received) > m.bounds.ttl {
		return ""
	}
	m.entries = append(m.entries, e)
	return e.body
}

func TestCacheMatchesModel(t *testing.T) { rapid.Check(t, checkBounds) }

func checkBounds(t *rapid.T) {
	m := &model{}
	var s *Strategy
	reload := func(t *rapid.T) {
		o := DefaultOptions()
		o.MaxEntries = rapid.IntRange(1, 6).Draw(t, "entries")
		o.MaxBytes = routes.Size(rapid.IntRange(500, 6000).Draw(t, "bytes"))
		o.TTL = time.Duration(rapid.IntRange(1, 20).Draw(t, "ttl"))*time.Hour + time.Hour/2
		var previous fallbacks.Strategy
		if s != nil {
			previous = s
		}
		s = start(previous, o)
		m.bounds = bounds{o.TTL, o.MaxEntries, int64(o.MaxBytes)}
		m.trim()
	}
	reload(t)
	draw := func(t *rapid.T) query {
		return query{fmt.Sprint("/", rapid.IntRange(0, 3).Draw(t, "path")), fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "accept"))}
	}
	t.Repeat(map[string]func(*rapid.T){
		"record": func(t *rapid.T) {
			q, body := draw(t), strings.Repeat("x", rapid.IntRange(1, 2000).Draw(t, "length"))
			rec := s.Record(q.request(), 200, http.Header{"Vary": {"Accept"}})
			rec.Write([]byte(body))
			if rapid.IntRange(0, 9).Draw(t, "end") > 0 {
				size, before := rec.(*recorder).entry.measure([]string{"Accept"}), s.CacheStats().Stored
				rec.Done()
				if s.CacheStats().Stored > before {
					entries := s.store.entries.Values()
					e := entries[len(entries)-1]
					m.put(modelEntry{q, body, e.size, e})
				} else if size <= m.bounds.bytes {
					t.Fatalf("an entry of at most %d bytes is not stored within %d", size, m.bounds.bytes)
				}
			}
		},
		"answer": func(t *rapid.T) {
			q := draw(t)
			got := ""
			if a, err := s.Answer(t.Context(), q.request()); err == nil {
				got = string(a.Body)
			}
			if want := m.get(q); got != want {
				t.Fatalf("%v: answered %d bytes, want %d", q, len(got), len(want))
			}
		},
		"wait": func(t *rapid.T) { // rapid can't run in a synctest bubble
			d := time.Duration(rapid.IntRange(1, 9).Draw(t, "hours")) * time.Hour
			for _, e := range m.entries {
				e.entry.received = e.entry.received.Add(-d)
			}
		},
		"reload": reload,
		"": func(t *rapid.T) {
			stats := s.CacheStats()
			if stats.Entries != len(m.entries) || stats.Bytes != m.bytes() || stats.Evicted != m.evicted {
				t.Fatalf("%+v, want %d entries of %d bytes, %d evicted", stats, len(m.entries), m.bytes(), m.evicted)
			}
			checkCounters(t, s.store)
		},
	})
}

// checkCounters checks that the counters of the store match its entries.
func checkCounters(t *rapid.T, s *store) {
	var bytes int64
	entries := map[*variant]int{}
	for _, e := range s.entries.Values() {
		bytes += e.size
		if e.variant != nil {
			entries[e.variant]++
		}
	}
	if bytes != s.counters.Bytes || bytes > s.bounds.bytes {
		t.Fatalf("%d bytes, counted %d of %d", bytes, s.counters.Bytes, s.bounds.bytes)
	}
	if len(entries) != len(s.variants) {
		t.Fatalf("%d variants have entries, the store has %d", len(entries), len(s.variants))
	}
	for v, n := range entries {
		if s.variants[v.hash] != v || v.entries != n {
			t.Fatalf("a variant with %d entries counts %d", n, v.entries)
		}
	}
}

func TestCacheBytesApproximateMemory(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // objects with finalizers are freed in the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, test := range map[string]struct {
		vary         string
		fields, body int
	}{
		"small": {"Accept", 1, 10}, "small without Vary": {"", 1, 10}, "typical": {"Accept", 8, 1000}, "many fields": {"Accept", 30, 100}, "large": {"", 5, 20000},
	} {
		t.Run(name, func(t *testing.T) {
			o := DefaultOptions()
			o.MaxEntries = 1 << 20
			s := start(nil, o)
			before := heap()
			for i := range 2000 {
				h := http.Header{"Vary": {test.vary}}
				for f := range test.fields {
					h[fmt.Sprint("X-Field-", f)] = []string{fmt.Sprintf("%040d", f)}
				}
				rec := s.Record(query{path: fmt.Sprint(i)}.request(), 200, h)
				for range 10 { // in parts, without Content-Length
					rec.Write(make([]byte, test.body/10))
				}
				rec.Done()
			}
			real, counted := heap()-before, s.CacheStats().Bytes
			runtime.KeepAlive(s)
			if ratio := float64(counted) / float64(real); ratio < 0.8 || ratio > 1.4 {
				t.Errorf("%d bytes counted, %d in memory: %.2f", counted, real, ratio)
			} else {
				t.Logf("%d bytes counted, %d in memory: %.2f", counted, real, ratio)
			}
		})
	}
}

// TestAnswersAreNotOverwritten uses a small cache for many requests, so that buffers are reused all
// the time, and checks each answer again at the end.
func TestAnswersAreNotOverwritten(t *testing.T) {
	o := DefaultOptions()
	o.MaxEntries = 4
	s := start(nil, o)
	content := func(q query, n int) string { return strings.Repeat(fmt.Sprint(q.path, n%7, ";"), 100) }
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var answers []*fallbacks.Answer
			var wanted []string
			for i := range 3000 {
				q := query{path: fmt.Sprint("/", (i*7+g)%9)}
				body := content(q, i)
				h := http.Header{"X-Body": {body}}
				if i%2 == 0 {
					h["Content-Length"] = []string{fmt.Sprint(len(body))}
				}
				rec := s.Record(q.request(), 200, h)
				rec.Write([]byte(body[:50]))
				rec.Write([]byte(body[50:]))
				rec.Done()
				if a, err := s.Answer(t.Context(), q.request()); err == nil { // it may have been evicted
					answers, wanted = append(answers, a), append(wanted, a.Header.Get("X-Body"))
				}
			}
			for i, a := range answers {
				if string(a.Body) != wanted[i] {
					t.Errorf("answered %.40q…, want %.40q…", a.Body, wanted[i])
					return
				}
			}
			if len(answers) < 100 {
				t.Errorf("only %d answers", len(answers))
			}
		})
	}
	wg.Wait()
	if stats := s.CacheStats(); stats.Evicted < 1000 || stats.Entries != 4 {
		t.Errorf("%+v: few entries were evicted", stats)
	}
}
