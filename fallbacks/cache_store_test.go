package fallbacks

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
	"cbproxy/routes"
)

// question is a client's request for a path.
type question struct{ path, accept string }

func (q question) Request() *Request {
	return &Request{Method: http.MethodGet, Path: q.path, Header: http.Header{"Accept": {q.accept}}}
}

func (question) Body(int64) ([]byte, error) { return nil, nil }

func cacheOf(t testing.TB, before *Chain, o *CacheOptions) (*Chain, *cacheStore) {
	c, err := NewChain([]string{"cache"}, map[string]any{"cache": o}, Site{Logger: slog.New(slog.DiscardHandler)}, before)
	if err != nil {
		panic(err) // t may be another's
	}
	c.Start()
	return c, c.Strategy("cache").(*cache).store
}

// modelCache is the cache in so many words: entries from the least to the most recently used.
type modelCache struct {
	bounds  cacheBounds
	entries []modelEntry
	evicted uint64
}

type modelEntry struct {
	question question
	body     string
	size     int64
	entry    *cacheEntry
}

func (m *modelCache) bytes() (n int64) {
	for _, e := range m.entries {
		n += e.size
	}
	return n
}

func (m *modelCache) take(q question) (e modelEntry, ok bool) {
	i := slices.IndexFunc(m.entries, func(e modelEntry) bool { return e.question == q })
	if i < 0 {
		return e, false
	}
	e = m.entries[i]
	m.entries = slices.Delete(m.entries, i, i+1)
	return e, true
}

func (m *modelCache) trim() {
	for len(m.entries) > m.bounds.entries || m.bytes() > m.bounds.bytes {
		m.entries = m.entries[1:]
		m.evicted++
	}
}

func (m *modelCache) learn(e modelEntry) {
	if e.size <= m.bounds.bytes {
		m.take(e.question)
		m.entries = append(m.entries, e)
		m.trim()
	}
}

func (m *modelCache) ask(q question) string {
	e, ok := m.take(q)
	if !ok || time.Since(e.entry.received) > m.bounds.ttl {
		return ""
	}
	m.entries = append(m.entries, e)
	return e.body
}

func TestCacheKeepsItsBoundsAsTheModelDoes(t *testing.T) { rapid.Check(t, checkBounds) }

func checkBounds(t *rapid.T) {
	m := &modelCache{}
	var chain *Chain
	var store *cacheStore
	reload := func(t *rapid.T) {
		o := defaultCacheOptions()
		o.MaxEntries = rapid.IntRange(1, 6).Draw(t, "entries")
		o.MaxBytes = routes.Size(rapid.IntRange(500, 6000).Draw(t, "bytes"))
		o.TTL = time.Duration(rapid.IntRange(1, 20).Draw(t, "ttl"))*time.Hour + time.Hour/2
		chain, store = cacheOf(nil, chain, o)
		m.bounds = cacheBounds{o.TTL, o.MaxEntries, int64(o.MaxBytes)}
		m.trim()
	}
	reload(t)
	draw := func(t *rapid.T) question {
		return question{fmt.Sprint("/", rapid.IntRange(0, 3).Draw(t, "path")), fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "accept"))}
	}
	t.Repeat(map[string]func(*rapid.T){
		"learn": func(t *rapid.T) {
			q, body := draw(t), strings.Repeat("x", rapid.IntRange(1, 2000).Draw(t, "length"))
			l := chain.Learn(q, 200, http.Header{"Vary": {"Accept"}})
			l.Write([]byte(body))
			if rapid.IntRange(0, 9).Draw(t, "end") > 0 {
				most, before := l.(*cacheLesson).entry.measure([]string{"Accept"}), store.stats().Stored
				l.Done()
				if store.stats().Stored > before {
					places := store.entries.Values()
					e := places[len(places)-1]
					m.learn(modelEntry{q, body, e.size, e})
				} else if most <= m.bounds.bytes {
					t.Fatalf("an entry of at most %d bytes is not kept within %d", most, m.bounds.bytes)
				}
			}
		},
		"ask": func(t *rapid.T) {
			q := draw(t)
			got := ""
			if a, _, err := chain.Answer(t.Context(), q, events.ReasonOpen); err == nil {
				got = string(a.Body)
			}
			if want := m.ask(q); got != want {
				t.Fatalf("%v: answered %d bytes, want %d", q, len(got), len(want))
			}
		},
		"wait": func(t *rapid.T) { // rapid can't run where time is synthetic
			d := time.Duration(rapid.IntRange(1, 9).Draw(t, "hours")) * time.Hour
			for _, e := range m.entries {
				e.entry.received = e.entry.received.Add(-d)
			}
		},
		"reload": reload,
		"": func(t *rapid.T) {
			s := store.stats()
			if s.Entries != len(m.entries) || s.Bytes != m.bytes() || s.Evicted != m.evicted {
				t.Fatalf("%+v, want %d entries of %d bytes, %d evicted", s, len(m.entries), m.bytes(), m.evicted)
			}
			checkBooks(t, store)
		},
	})
}

// checkBooks checks that the store's numbers are the sums over its entries.
func checkBooks(t *rapid.T, s *cacheStore) {
	var bytes int64
	entries := map[*cacheQuestion]int{}
	for _, e := range s.entries.Values() {
		bytes += e.size
		if e.question != nil {
			entries[e.question]++
		}
	}
	if bytes != s.numbers.Bytes || bytes > s.bounds.bytes {
		t.Fatalf("%d bytes, counted %d of %d", bytes, s.numbers.Bytes, s.bounds.bytes)
	}
	if len(entries) != len(s.questions) {
		t.Fatalf("%d questions have entries, %d are kept", len(entries), len(s.questions))
	}
	for q, n := range entries {
		if s.questions[q.hash] != q || q.entries != n {
			t.Fatalf("a question with %d entries counts %d", n, q.entries)
		}
	}
}

func TestCacheBytesAreNearlyThoseInMemory(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what has finalizers goes in the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, test := range map[string]struct {
		vary         string
		fields, body int
	}{
		"small": {"Accept", 1, 10}, "small without Vary": {"", 1, 10}, "usual": {"Accept", 8, 1000}, "many fields": {"Accept", 30, 100}, "large": {"", 5, 20000},
	} {
		t.Run(name, func(t *testing.T) {
			o := defaultCacheOptions()
			o.MaxEntries = 1 << 20
			chain, store := cacheOf(t, nil, o)
			before := heap()
			for i := range 2000 {
				h := http.Header{"Vary": {test.vary}}
				for f := range test.fields {
					h[fmt.Sprint("X-Field-", f)] = []string{fmt.Sprintf("%040d", f)}
				}
				l := chain.Learn(question{path: fmt.Sprint(i)}, 200, h)
				for range 10 { // in parts of a body whose length is not known
					l.Write(make([]byte, test.body/10))
				}
				l.Done()
			}
			real, counted := heap()-before, store.stats().Bytes
			runtime.KeepAlive(chain)
			if ratio := float64(counted) / float64(real); ratio < 0.8 || ratio > 1.4 {
				t.Errorf("%d bytes counted, %d in memory: %.2f", counted, real, ratio)
			} else {
				t.Logf("%d bytes counted, %d in memory: %.2f", counted, real, ratio)
			}
		})
	}
}

// TestAnswersStayAsTheyAre has few places for many questions, so that memory is used again all the
// time, and looks at each answer once more when much has been learnt since.
func TestAnswersStayAsTheyAre(t *testing.T) {
	o := defaultCacheOptions()
	o.MaxEntries = 4
	chain, store := cacheOf(t, nil, o)
	content := func(q question, n int) string { return strings.Repeat(fmt.Sprint(q.path, n%7, ";"), 100) }
	var running sync.WaitGroup
	for g := range 4 {
		running.Go(func() {
			var answers []*Answer
			var wanted []string
			for i := range 3000 {
				q := question{path: fmt.Sprint("/", (i*7+g)%9)}
				body := content(q, i)
				h := http.Header{"X-Body": {body}}
				if i%2 == 0 {
					h["Content-Length"] = []string{fmt.Sprint(len(body))}
				}
				l := chain.Learn(q, 200, h)
				l.Write([]byte(body[:50]))
				l.Write([]byte(body[50:]))
				l.Done()
				if a, _, err := chain.Answer(t.Context(), q, events.ReasonOpen); err == nil { // or it has gone already
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
	running.Wait()
	if s := store.stats(); s.Evicted < 1000 || s.Entries != 4 {
		t.Errorf("%+v: little has been used again", s)
	}
}
