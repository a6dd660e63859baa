package soak

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/e2e/harness"
)

// measurements are taken in quiet periods: when no fault is active and no request is in flight.
type measurements struct {
	samples [stableInstances][]resourceSample
	redis   []redisSample
}

// resourceSample is the resource usage of a stable instance. Sizes are in bytes.
type resourceSample struct {
	time                    time.Time
	goroutines, descriptors int
	heapInUse, heapLive     float64 // live after the latest garbage collection
	resident, peakResident  float64
	dataDir                 float64
}

type redisSample struct{ keys, bytes float64 }

// Allowed growth between the first quiet period and a later one. A leak per request, fault or edit exceeds it by far.
const (
	slackGoroutines  = 3
	slackDescriptors = 3 // Redis' pool has up to four connections
	slackHeapLive    = 6 << 20
	slackResident    = 48 << 20
	slackDataDir     = 16 << 20
)

// maxRedisKeys is the maximum number of keys of the fleet in Redis: the state, history and lease of each service, the
// stream of the queue and two keys of each instance.
var maxRedisKeys = float64(3*len(routes) + 1 + 2*fleetSize)

// measure takes the samples of a quiet period. It stops the upstreams meanwhile, so that no instance is connected to
// them, and waits until goroutines and descriptors have been released.
func (s *soakTest) measure() {
	s.t.Helper()
	for _, u := range s.upstreams {
		u.Kill()
	}
	for n, p := range s.fleet[:stableInstances] {
		http.DefaultClient.CloseIdleConnections()
		samples := &s.measurements.samples[n]
		var current resourceSample
		s.await("goroutines and descriptors are released", func() error {
			previous := current
			current = p.sampleMinimum()
			first := current
			if len(*samples) > 0 {
				first = (*samples)[0]
			}
			return require(current.goroutines >= previous.goroutines && current.descriptors >= previous.descriptors && previous.goroutines > 0 &&
				current.goroutines <= first.goroutines+slackGoroutines && current.descriptors <= first.descriptors+slackDescriptors,
				"instance %d: %d goroutines, %d descriptors; in the first quiet period %d and %d", p.n, current.goroutines, current.descriptors, first.goroutines, first.descriptors)
		})
		*samples = append(*samples, current)
	}
	s.measurements.redis = append(s.measurements.redis, s.sampleRedis())
	for _, u := range s.upstreams {
		u.Start()
	}
}

// withoutKeepAlive closes each connection after its request, so that it does not count as a descriptor of the proxy.
var withoutKeepAlive = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// sampleMinimum samples several times and returns the minimum of goroutines and descriptors, which vary with background
// work such as Redis commands.
func (p *instance) sampleMinimum() (minimum resourceSample) {
	p.T.Helper()
	for n := range 10 {
		current := p.sample()
		if n == 0 {
			minimum = current
		}
		minimum.goroutines, minimum.descriptors = min(minimum.goroutines, current.goroutines), min(minimum.descriptors, current.descriptors)
		time.Sleep(20 * time.Millisecond)
	}
	return minimum
}

func (p *instance) sample() resourceSample {
	p.T.Helper()
	res, err := withoutKeepAlive.Get(p.AdminURL + "/metrics")
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
	bytesOf := func(name string) float64 {
		_, rest, _ := strings.Cut(string(status), name+":")
		kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		return kilobytes * 1024
	}
	return resourceSample{
		time: time.Now(), goroutines: int(m["go_goroutines"]), descriptors: len(descriptors), heapInUse: m["go_memstats_heap_inuse_bytes"],
		heapLive: m["go_memstats_next_gc_bytes"] / (1 + m["go_gc_gogc_percent"]/100),
		resident: bytesOf("VmRSS"), peakResident: bytesOf("VmHWM"), dataDir: folderSize(p.DataDir),
	}
}

// folderSize returns the total size of the files in a folder, in bytes.
func folderSize(folder string) (bytes float64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil { // the proxy may have deleted the file
				bytes += float64(info.Size())
			}
		}
		return nil
	})
	return bytes
}

func (s *soakTest) sampleRedis() redisSample {
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

// checkLeaks compares the last quiet period with the first.
func (s *soakTest) checkLeaks() {
	for n, samples := range s.measurements.samples {
		first, last := samples[0], samples[len(samples)-1]
		for resource, leaked := range map[string]bool{
			"live heap":       last.heapLive > first.heapLive*1.25+slackHeapLive,
			"resident memory": last.resident > first.resident*1.25+slackResident && len(harness.BuildFlags) == 0, // the race detector needs memory of its own
			"data_dir":        last.dataDir > first.dataDir+slackDataDir,
		} {
			if leaked {
				s.reportf("leak", "instance %d: %s: first %+v, last %+v", n, resource, first, last)
			}
		}
	}
	for _, r := range s.measurements.redis {
		if r.keys > maxRedisKeys {
			s.reportf("leak", "Redis has %v keys, the maximum is %v", r.keys, maxRedisKeys)
		}
	}
}
