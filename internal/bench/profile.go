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

	"cbproxy/internal/bench/loadgen"
	"cbproxy/internal/bench/process"
)

// profiler is a source file that is added to cmd/cbproxy to record a profile. It writes a CPU profile, from the start until
// SIGUSR1, to the file named by CBPROXY_BENCH_PROFILE. The file appears when it is complete.
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

// profileParts is the number of times that the loads of a profile alternate.
const profileParts = 10

// profile renews cmd/cbproxy/default.pgo, the profile for the compiler's optimizations. It covers the closed breaker, with and
// without request bodies, and the open breaker.
func profile(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	requests := f.Int("requests", 30_000, "requests per kind and part; there are 10 parts")
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
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary folder is harmless
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
	return os.WriteFile(to, content, 0o644) // #nosec G306 -- world-readable source code
}

// buildProfiled builds cbproxy with the profiler.
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

// loadForProfile records a profile of cbproxy under load, and returns when the file is complete.
func (b *bench) loadForProfile(ctx context.Context, requests int, file string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	origin, _, err := b.startUpstream(ctx, process.AllCores)
	if err != nil {
		return err
	}
	defer origin.Close()
	dead, err := process.FreeAddress()
	if err != nil {
		return err
	}
	p, err := b.startCBProxy(ctx, setting{name: "cbproxy", target: origin.Address, dead: dead})
	if err != nil {
		return err
	}
	defer p.Close()
	fallback, err := captureFallback(ctx, "http://"+p.Address+deadPath)
	if err != nil {
		return err
	}
	healthy := loadgen.Load{Address: p.Address, Request: request(path, 0), Requests: requests, Connections: b.connections, Status: http.StatusOK, Length: responseBytes}
	posted, open := healthy, healthy
	posted.Request = request(path, responseBytes)
	open.Request, open.Status, open.Length = request(deadPath, 0), fallback.Status, len(fallback.Body)
	for range profileParts {
		for _, l := range []loadgen.Load{healthy, posted, open} {
			if r, err := l.Run(ctx); err != nil || r.Errors > 0 {
				return fmt.Errorf("%d errors under load: %w%s", r.Errors, errors.Join(err, r.LastError), p.Output())
			}
		}
	}
	if err := p.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < process.StopTimeout; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no profile was written within %v%s", process.StopTimeout, p.Output())
}
