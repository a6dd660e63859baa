package soak

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"cbproxy/internal/e2e/harness"
)

// figures are the measurements taken while no fault is active.
type figures struct {
	samples [soakElders][]footprint
	redis   []redisSample
}

// footprint is what an elder occupies while nobody asks it anything.
type footprint struct {
	at                          time.Time
	goroutines, descriptors     int
	heapInUse, heapLive         float64 // bytes; live is what the last collection found
	resident, peak, directories float64 // bytes
}

type redisSample struct{ keys, bytes float64 }

// What there may be more of in a later quiet spell than in the first: whatever leaks with requests, faults or edits
// leaks far more.
const (
	slackGoroutines  = 3
	slackDescriptors = 3 // Redis's pool has up to four connections
	slackHeapLive    = 6 << 20
	slackResident    = 48 << 20
	slackDirectory   = 16 << 20
)

// mostKeys is how many keys the fleet has in Redis at most: of each service its state, history and lease, and
// of the queue its stream and of each instance two.
var mostKeys = float64(3*len(soakRoutes) + 1 + 2*soakFleet)

// measure takes the samples of a quiet spell. Upstreams are down meanwhile, so that nothing is connected
// to them; what ends by itself is waited for.
func (s *soak) measure() {
	s.t.Helper()
	for _, u := range s.upstreams {
		u.Kill()
	}
	for n, p := range s.fleet[:soakElders] {
		http.DefaultClient.CloseIdleConnections()
		all := &s.figures.samples[n]
		var now footprint
		s.within("what was in use is given back", func() string {
			before := now
			now = p.least()
			first := now
			if len(*all) > 0 {
				first = (*all)[0]
			}
			return unless(now.goroutines >= before.goroutines && now.descriptors >= before.descriptors && before.goroutines > 0 &&
				now.goroutines <= first.goroutines+slackGoroutines && now.descriptors <= first.descriptors+slackDescriptors,
				"instance %d: %d goroutines, %d descriptors; in the first quiet spell it were %d and %d", p.n, now.goroutines, now.descriptors, first.goroutines, first.descriptors)
		})
		*all = append(*all, now)
	}
	s.figures.redis = append(s.figures.redis, s.sampleRedis())
	for _, u := range s.upstreams {
		u.Start()
	}
}

// alone is a client that closes its connections after each request.
var alone = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// least is the least of some moments: what asks Redis and such comes and goes.
func (p *soakProxy) least() (least footprint) {
	p.T.Helper()
	for n := range 10 {
		now := p.sample()
		if n == 0 {
			least = now
		}
		least.goroutines, least.descriptors = min(least.goroutines, now.goroutines), min(least.descriptors, now.descriptors)
		time.Sleep(20 * time.Millisecond)
	}
	return least
}

func (p *soakProxy) sample() footprint {
	p.T.Helper()
	res, err := alone.Get(p.AdminURL + "/metrics")
	m := harness.ParseSeries(harness.ReadResponse(p.T, res, err).Body)
	pid := p.Cmd.Process.Pid
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		p.T.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		p.T.Fatal(err)
	}
	of := func(name string) float64 {
		_, rest, _ := strings.Cut(string(status), name+":")
		kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		return kilobytes * 1024
	}
	return footprint{
		at: time.Now(), goroutines: int(m["go_goroutines"]), descriptors: len(descriptors), heapInUse: m["go_memstats_heap_inuse_bytes"],
		heapLive: m["go_memstats_next_gc_bytes"] / (1 + m["go_gc_gogc_percent"]/100), resident: of("VmRSS"), peak: of("VmHWM"), directories: sizeOf(p.DataDir),
	}
}

func sizeOf(folder string) (bytes float64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil { // it may be gone
				bytes += float64(info.Size())
			}
		}
		return nil
	})
	return bytes
}

func (s *soak) sampleRedis() redisSample {
	keys, err := s.client.DBSize(s.t.Context()).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	memory, err := s.client.Info(s.t.Context(), "memory").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(memory, "used_memory_dataset:")
	used, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return redisSample{float64(keys), used}
}

// checkLeaks compares the last quiet spell with the first.
func (s *soak) checkLeaks() {
	for n, all := range s.figures.samples {
		first, last := all[0], all[len(all)-1]
		for what, grown := range map[string]bool{
			"live heap":       last.heapLive > first.heapLive*1.25+slackHeapLive,
			"resident memory": last.resident > first.resident*1.25+slackResident && len(harness.BuildFlags) == 0, // the race detector has its own
			"data_dir":        last.directories > first.directories+slackDirectory,
		} {
			if grown {
				s.complain("a leak", "instance %d: %s: first %+v, last %+v", n, what, first, last)
			}
		}
	}
	for _, r := range s.figures.redis {
		if r.keys > mostKeys {
			s.complain("a leak", "Redis has %v keys, at most there should be %v", r.keys, mostKeys)
		}
	}
}

// logProgress logs progress every ten seconds until stop is called.
func (s *soak) logProgress() (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	begin := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.t.Logf("%v: %d requests, %d faults", time.Since(begin).Round(time.Second), s.tally.total(), s.faults.total())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-stopped
	})
}

func (f *faultCount) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.by {
		n += c
	}
	return n
}

// report prints the figures.
func (s *soak) report(took time.Duration) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "seed %d, %v, %d instances\t\n", s.seed, took.Round(time.Second), len(s.fleet))
	fmt.Fprintf(w, "requests\t%d, a second %.0f\n", s.tally.total(), float64(s.tally.total())/took.Seconds())
	table(w, "  ", s.tally.outcomes)
	fmt.Fprintf(w, "longest answer\t%v\n", s.tally.longest.Round(time.Millisecond))
	for what, t := range map[string]*times{"answers of the upstream, in calm": &s.tally.fast, "static answers while open": &s.tally.open} {
		q := t.quantiles(.5, .99, 1)
		fmt.Fprintf(w, "%s\t%d: p50 %v, p99 %v, longest %v\n", what, t.len(), q[0].Round(time.Microsecond), q[1].Round(time.Microsecond), q[2].Round(time.Microsecond))
	}
	fmt.Fprintf(w, "faults\t%d\n", s.faults.total())
	table(w, "  ", s.faults.by)
	l := &s.ledger
	fmt.Fprintf(w, "queued\t%d accepted, %d of them delivered, %d times more than once; %d whose client knows of no answer\n", l.accepted, l.delivered, l.duplicates, l.unsure)
	for n, all := range s.figures.samples {
		first, last := all[0], all[len(all)-1]
		row := func(what string, of func(footprint) float64, unit float64) {
			most := first
			for _, one := range all {
				if of(one) > of(most) {
					most = one
				}
			}
			fmt.Fprintf(w, "  %s\tfirst %.1f, last %.1f, most %.1f, slope %+.2f a minute\n", what, of(first)/unit, of(last)/unit, of(most)/unit, slope(all, of)/unit)
		}
		fmt.Fprintf(w, "instance %d in %d quiet spells\t\n", n, len(all))
		row("goroutines", func(s footprint) float64 { return float64(s.goroutines) }, 1)
		row("descriptors", func(s footprint) float64 { return float64(s.descriptors) }, 1)
		row("live heap, MiB", func(s footprint) float64 { return s.heapLive }, 1<<20)
		row("heap in use, MiB", func(s footprint) float64 { return s.heapInUse }, 1<<20)
		row("resident, MiB", func(s footprint) float64 { return s.resident }, 1<<20)
		row("most ever resident, MiB", func(s footprint) float64 { return s.peak }, 1<<20)
		row("data_dir, KiB", func(s footprint) float64 { return s.directories }, 1<<10)
	}
	fmt.Fprintf(w, "Redis\tkeys and KiB in the quiet spells:")
	for _, r := range s.figures.redis {
		fmt.Fprintf(w, " %v/%.0f", r.keys, r.bytes/1024)
	}
	fmt.Fprintln(w)
	_ = w.Flush()
	s.t.Log("\n" + text.String())
}

func table(w *tabwriter.Writer, indent string, of map[string]int) {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "%s%s\t%d\n", indent, name, of[name])
	}
}

// slope is how much something grows in a minute, by least squares.
func slope(all []footprint, of func(footprint) float64) float64 {
	var n, x, y, xx, xy float64
	for _, one := range all {
		minutes := one.at.Sub(all[0].at).Minutes()
		n, x, y, xx, xy = n+1, x+minutes, y+of(one), xx+minutes*minutes, xy+minutes*of(one)
	}
	if d := n*xx - x*x; d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}
