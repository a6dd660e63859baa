package outcomes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

var randomCalls = rapid.Custom(func(t *rapid.T) events.Call {
	c := events.Call{
		Time:   timeAt(rapid.Int64Range(0, 1<<timeBits-2*ticksPerMicrosecond-1).Draw(t, "time")),
		Result: rapid.SampledFrom(events.Results[:]).Draw(t, "result"),
		Status: rapid.IntRange(0, 999).Draw(t, "status"), Duration: durationOf(rapid.Int64Range(0, 1<<43).Draw(t, "took")),
	}
	if c.Result == events.ResultFailure {
		c.ErrorType = rapid.SampledFrom(events.ErrorTypes[:]).Draw(t, "type")
	}
	return c
})

func TestRecordHasTheCall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, record := randomCalls.Draw(t, "call"), make([]byte, recordSize)
		encode(record, &want)
		if got := decode(record); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
	// Values that do not fit are limited, and a duration below the resolution is not 0.
	record := make([]byte, recordSize)
	encode(record, &events.Call{Time: time.Unix(-5, 0), Result: events.ResultSuccess, Duration: time.Nanosecond})
	if got := decode(record); !got.Time.Equal(time.Unix(0, 0)) || got.Duration <= 0 || got.Duration > time.Microsecond {
		t.Errorf("got %+v", got)
	}
	encode(record, &events.Call{Time: time.Unix(1<<40, 0), Result: events.ResultCancelled, Duration: -1})
	if got := decode(record); got.Result != events.ResultCancelled || got.Duration != 0 || got.ErrorType != "" {
		t.Errorf("got %+v", got)
	}
}

// storedCall is a call in the list model.
type storedCall struct {
	service string
	events.Call
}

func readAll(t require, s *Store, service string, since, until time.Time) (calls []storedCall) {
	err := s.Read(context.Background(), service, since, until, func(service string, c events.Call) error {
		calls = append(calls, storedCall{service, c})
		return nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return calls
}

// require is what tests and properties have in common.
type require interface{ Fatalf(string, ...any) }

// The store has the latest calls of each service, whatever is stored, closed, opened again and resized. The ring may have up to one block
// more or less than the list, because it drops whole blocks.
func TestStoreMatchesAListOfCalls(t *testing.T) {
	for _, files := range []bool{false, true} {
		t.Run(fmt.Sprintf("files=%v", files), func(t *testing.T) {
			number := 0
			rapid.Check(t, func(rt *rapid.T) {
				dir := ""
				if files {
					number++
					dir = filepath.Join(t.TempDir(), fmt.Sprint(number))
				}
				names := []string{"a", "b/c"}
				config := Config{Enabled: true, MaxBytes: 4 * blockSize, MaxAge: 1000 * time.Hour}
				begin := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
				now := begin
				s := New(dir, discard)
				s.Apply(config, names)
				defer func() { _ = s.Close() }()
				all := map[string][]storedCall{}
				atLeast := map[string]int{} // how many of the latest calls must be there
				limit := func() {
					for _, name := range names {
						atLeast[name] = min(atLeast[name], (config.slots()-1)*blockRecords)
					}
				}
				check := func(t *rapid.T) {
					for _, name := range names {
						got := readAll(t, s, name, time.Time{}, time.Time{})
						want := slices.Clone(all[name])
						if len(got) < atLeast[name] || len(got) > (9+1)*blockRecords {
							t.Fatalf("%s: %d calls, want at least %d", name, len(got), atLeast[name])
						}
						want = want[len(want)-len(got):]
						slices.SortStableFunc(want, func(a, b storedCall) int { return a.Time.Compare(b.Time) })
						if !sameCalls(got, want) {
							t.Fatalf("%s: %d calls are not the latest %d", name, len(got), len(want))
						}
					}
				}
				rt.Repeat(map[string]func(*rapid.T){
					"calls": func(t *rapid.T) {
						name := rapid.SampledFrom(names).Draw(t, "service")
						record := s.Recorder(name)
						for range rapid.IntRange(1, 400).Draw(t, "calls") {
							now = now.Add(time.Duration(rapid.Int64Range(0, 1000).Draw(t, "pause")) * time.Microsecond)
							took := time.Duration(rapid.Int64Range(0, 5000).Draw(t, "took")) * time.Microsecond
							c := events.Call{Time: now.Add(-took).UTC(), Result: events.ResultSuccess, Status: 200, Duration: took}
							record(c)
							all[name] = append(all[name], storedCall{name, c})
							atLeast[name]++
						}
						limit()
					},
					"store": func(*rapid.T) {
						for _, r := range s.current() {
							if err := r.store(); err != nil {
								t.Fatal(err)
							}
						}
					},
					"reopen": func(t *rapid.T) {
						if !files {
							t.Skip("in memory")
						}
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
						s = New(dir, discard)
						s.Apply(config, names)
					},
					"resize": func(t *rapid.T) {
						if !files {
							t.Skip("in memory")
						}
						config.MaxBytes = int64(rapid.IntRange(2, 9).Draw(t, "blocks")) * blockSize
						s.Apply(config, names)
						limit()
					},
					"read": check,
				})
				check(rt)
			})
		})
	}
}

// sameCalls reports whether two lists by time have the same calls. Those of the same time may be in any order.
func sameCalls(a, b []storedCall) bool {
	order := func(x, y storedCall) int { return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Duration, y.Duration)) }
	if !slices.IsSortedFunc(a, func(x, y storedCall) int { return x.Time.Compare(y.Time) }) {
		return false
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

// Calls are read by the time at which they were asked for, also those that took long.
func TestReadMergesServicesByTime(t *testing.T) {
	s := New("", discard)
	s.Apply(Config{Enabled: true, MaxBytes: 1 << 20, MaxAge: time.Hour}, []string{"a", "b"})
	begin := time.Now().Add(-time.Minute).Truncate(time.Millisecond).UTC()
	for i := range 1000 {
		at := begin.Add(time.Duration(i) * time.Millisecond)
		s.Recorder([]string{"a", "b"}[i%2])(events.Call{Time: at, Result: events.ResultSuccess})
		if i%100 == 99 { // a call that began before all others
			s.Recorder("b")(events.Call{Time: begin.Add(-time.Duration(i) * time.Millisecond), Result: events.ResultFailure, ErrorType: events.ErrorTimeout})
		}
	}
	calls := readAll(t, s, "", time.Time{}, time.Time{})
	if len(calls) != 1010 || calls[0].Result != events.ResultFailure || calls[10].service != "a" || calls[11].service != "b" {
		t.Errorf("%d calls, the first ones are %+v", len(calls), calls[:12])
	}
	if !slices.IsSortedFunc(calls, func(a, b storedCall) int { return a.Time.Compare(b.Time) }) {
		t.Error("the calls are not in the order of their time")
	}
	some := readAll(t, s, "a", begin.Add(100*time.Millisecond), begin.Add(200*time.Millisecond))
	if len(some) != 51 || some[0].Time != begin.Add(100*time.Millisecond) || some[50].Time != begin.Add(200*time.Millisecond) {
		t.Errorf("%d calls in a span of time", len(some))
	}
	if err := s.Read(t.Context(), "c", begin, begin, nil); err != ErrUnknownService {
		t.Errorf("a service that is not known: %v", err)
	}
	stop := errors.New("stop")
	if err := s.Read(t.Context(), "", time.Time{}, time.Time{}, func(string, events.Call) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the reader: %v", err)
	}
}

func TestOldCallsAreNotRead(t *testing.T) {
	s := New("", discard)
	s.Apply(Config{Enabled: true, MaxBytes: 1 << 20, MaxAge: time.Minute}, []string{"a"})
	for _, age := range []time.Duration{time.Hour, time.Second} {
		s.Recorder("a")(events.Call{Time: time.Now().Add(-age), Result: events.ResultSuccess})
	}
	if calls := readAll(t, s, "a", time.Time{}, time.Time{}); len(calls) != 1 {
		t.Errorf("%+v", calls)
	}
}

// A damaged file is renamed, and a new one begins.
func TestDamagedFileIsSetAside(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"a byte of a record":    func(d []byte) []byte { d[blockSize+blockHeaderSize+5] ^= 1; return d },
		"the number of records": func(d []byte) []byte { d[blockSize+8] = 200; return d },
		"too many records":      func(d []byte) []byte { d[blockSize+9] = 200; return d },
		"a block elsewhere":     func(d []byte) []byte { return append(d, d[blockSize:2*blockSize]...) },
		"the beginning":         func(d []byte) []byte { d[0]++; return d },
		"the number of slots":   func(d []byte) []byte { clear(d[len(magic) : len(magic)+4]); return d },
		"another file":          func([]byte) []byte { return []byte("hello") },
		"cut off":               func(d []byte) []byte { return d[:blockSize+100] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			config := Config{Enabled: true, MaxBytes: 1 << 20, MaxAge: time.Hour}
			s := New(dir, discard)
			s.Apply(config, []string{"svc"})
			for range 10 {
				s.Recorder("svc")(events.Call{Time: time.Now(), Result: events.ResultSuccess, Status: 200})
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "outcomes", "svc.ring")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s = New(dir, slog.New(slog.NewTextHandler(&log, nil)))
			s.Apply(config, []string{"svc"})
			defer s.Close()
			s.Recorder("svc")(events.Call{Time: time.Now(), Result: events.ResultSuccess})
			if calls := readAll(t, s, "svc", time.Time{}, time.Time{}); len(calls) != 1 {
				t.Errorf("%d calls in the new file", len(calls))
			}
			if aside, _ := filepath.Glob(path + ".set-aside-*"); len(aside) != 1 || !strings.Contains(log.String(), "renamed to") {
				t.Errorf("set aside %v, logged %s", aside, log.String())
			}
		})
	}
}

// An empty file is one whose process ended when it had created it.
func TestEmptyFileIsUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outcomes", "svc.ring")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(dir, discard)
	s.Apply(Config{Enabled: true, MaxBytes: 1 << 20, MaxAge: time.Hour}, []string{"svc"})
	defer s.Close()
	if info, err := os.Stat(path); err != nil || info.Size() != blockSize {
		t.Errorf("%v, %v", info, err)
	}
}

// A file that another process has open, or that is no file, is left alone: calls are kept in memory.
func TestUnusableFileIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	config := Config{Enabled: true, MaxBytes: 1 << 20, MaxAge: time.Hour}
	first, second := New(dir, discard), New(dir, discard)
	first.Apply(config, []string{"svc"})
	defer first.Close()
	if err := os.MkdirAll(filepath.Join(dir, "outcomes", "folder.ring"), 0o700); err != nil {
		t.Fatal(err)
	}
	second.Apply(config, []string{"svc", "folder"})
	defer second.Close()
	for _, name := range []string{"svc", "folder"} {
		second.Recorder(name)(events.Call{Time: time.Now(), Result: events.ResultSuccess})
		if calls := readAll(t, second, name, time.Time{}, time.Time{}); len(calls) != 1 {
			t.Errorf("%s: %d calls", name, len(calls))
		}
	}
	if calls := readAll(t, first, "svc", time.Time{}, time.Time{}); len(calls) != 0 {
		t.Errorf("the first process has %d calls of the second", len(calls))
	}
}

func TestDisabledServicesRecordNothing(t *testing.T) {
	s := New("", discard)
	config := Config{MaxBytes: 1 << 20, MaxAge: time.Hour}
	call := events.Call{Time: time.Now(), Result: events.ResultSuccess}
	record := s.Recorder("svc") // before the configuration is applied, as a breaker does
	for _, step := range []struct {
		enabled  bool
		services []string
		want     int
	}{{false, []string{"svc"}, 0}, {true, []string{"svc"}, 1}, {true, []string{"svc", "other"}, 2}, {true, []string{"other"}, 0}} {
		config.Enabled = step.enabled
		s.Apply(config, step.services)
		record(call)
		if calls := readAll(t, s, "svc", time.Time{}, time.Time{}); len(calls) != step.want {
			t.Errorf("%+v: %d calls", step, len(calls))
		}
	}
}

// blockedStorage is a storage whose writes wait, and fail.
type blockedStorage struct {
	memory
	proceed chan struct{}
}

func (b *blockedStorage) write(int, *block) error {
	<-b.proceed
	return errors.New("no space left on device")
}

// A disk that does not respond delays no call. The oldest calls that are not stored are lost, and counted.
func TestBlockedDiskDelaysNoCall(t *testing.T) {
	b := &blockedStorage{memory{slots: map[int][blockSize]byte{}}, make(chan struct{})}
	r := newRing(b, make([]stored, 1000), nil, func() {})
	r.add(events.Call{Time: time.Now()})
	stored := make(chan error)
	go func() { stored <- r.store() }()
	for range (maxUnstored + 2) * blockRecords {
		r.add(events.Call{Time: time.Now(), Result: events.ResultSuccess})
	}
	if lost := r.lostCalls(); lost < blockRecords || lost > 3*blockRecords {
		t.Errorf("%d calls are lost", lost)
	}
	close(b.proceed)
	if err := <-stored; err == nil {
		t.Error("the error of the storage is lost")
	}
}

func TestConcurrentCallsAreRecorded(t *testing.T) {
	s := New(t.TempDir(), discard)
	s.Apply(Config{Enabled: true, MaxBytes: 16 << 20, MaxAge: time.Hour}, []string{"svc"})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var running, callers sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	record := s.Recorder("svc")
	for range 8 {
		callers.Go(func() {
			for range 5000 {
				record(events.Call{Time: time.Now(), Result: events.ResultSuccess, Status: 200})
			}
		})
	}
	callers.Go(func() {
		for range 5 {
			readAll(t, s, "svc", time.Time{}, time.Time{})
		}
	})
	callers.Wait()
	if calls := readAll(t, s, "", time.Time{}, time.Time{}); uint64(len(calls))+s.Lost() != 40000 {
		t.Errorf("%d calls, %d lost", len(calls), s.Lost())
	}
	cancel()
	running.Wait()
}

func BenchmarkRecord(b *testing.B) {
	s := New(b.TempDir(), discard)
	s.Apply(Config{Enabled: true, MaxBytes: 16 << 20, MaxAge: time.Hour}, []string{"svc"})
	defer s.Close()
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	record, call := s.Recorder("svc"), events.Call{Time: time.Now(), Result: events.ResultSuccess, Status: 200, Duration: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		record(call)
	}
}
