package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// profiler is a file that is built into cmd/cbproxy for a profile's sake alone: it writes what the CPU does from the start
// until SIGUSR1 to the file that CBPROXY_BENCH_PROFILE names, which is there when it is complete.
const profiler = `package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

func init() {
	path := os.Getenv("CBPROXY_BENCH_PROFILE")
	f, err := os.Create(path + ".part")
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGUSR1)
	go func() {
		<-stop
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			panic(err)
		}
		if err := os.Rename(path+".part", path); err != nil {
			panic(err)
		}
	}()
}
`

// profileParts is how often the loads of a profile alternate.
const profileParts = 10

// profile renews cmd/cbproxy/default.pgo, by which the compiler knows what is called often: of the closed path, with
// requests that have a body and that have none, and of the open one.
func profile(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	requests := f.Int("requests", 30_000, "requests of each kind and part; there are 10 parts")
	if err := f.Parse(args); err != nil {
		return err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cbproxy-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary folder harms nobody
	b := &bench{options: options{connections: 64}, dir: dir, cbproxy: filepath.Join(dir, "cbproxy")}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := b.buildProfiled(ctx, root); err != nil {
		return err
	}
	file := filepath.Join(dir, "cpu.pgo")
	if err := os.Setenv("CBPROXY_BENCH_PROFILE", file); err != nil {
		return err
	}
	if err := b.loadForProfile(ctx, *requests, file); err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	to := filepath.Join(root, "cmd/cbproxy/default.pgo")
	fmt.Printf("%s: %d bytes\n", to, len(content))
	return os.WriteFile(to, content, 0o644) // #nosec G306 -- source code, for everybody to read
}

// buildProfiled builds cbproxy with the profiler in it.
func (b *bench) buildProfiled(ctx context.Context, root string) error {
	source, overlay := filepath.Join(b.dir, "profiler.go"), filepath.Join(b.dir, "overlay.json")
	added, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd/cbproxy/profiler.go"): source}})
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(source, []byte(profiler), 0o600), os.WriteFile(overlay, added, 0o600))
	if err != nil {
		return err
	}
	return goBuild(ctx, b.cbproxy, "build", "-C", root, "-overlay", overlay, "-pgo=off", "-o", b.cbproxy, "./cmd/cbproxy")
}

// loadForProfile has cbproxy profiled under load, and returns when the profile is in the file.
func (b *bench) loadForProfile(ctx context.Context, requests int, file string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	origin, _, err := b.startUpstream(ctx, allCores)
	if err != nil {
		return err
	}
	defer origin.close()
	dead, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := b.startCBProxy(ctx, setting{name: "cbproxy", target: origin.address, dead: dead})
	if err != nil {
		return err
	}
	defer p.close()
	fallback, err := captureFallback(ctx, "http://"+p.address+deadPath)
	if err != nil {
		return err
	}
	healthy := load{address: p.address, request: request(path, 0), requests: requests, connections: b.connections, status: http.StatusOK, length: answerBytes}
	posted, open := healthy, healthy
	posted.request = request(path, answerBytes)
	open.request, open.status, open.length = request(deadPath, 0), fallback.Status, len(fallback.Body)
	for range profileParts {
		for _, l := range []load{healthy, posted, open} {
			if r, err := l.run(ctx); err != nil || r.errors > 0 {
				return fmt.Errorf("%d errors under load: %w%s", r.errors, errors.Join(err, r.lastError), p.said())
			}
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < stopTimeout; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no profile came%s", p.said())
}
