package httpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/httpserver"
	"cbproxy/internal/listen"
)

// testSet is a Set whose listeners are added by their addresses.
type testSet struct {
	t *testing.T
	*httpserver.Set
	requests chan string // gets the path of each request to /slow when it has begun
	finish   chan struct{}
}

// startSet starts an empty set that runs until the end of the test. A request for /slow is answered when finish is closed.
func startSet(t *testing.T) *testSet {
	t.Helper()
	s := &testSet{t: t, requests: make(chan string, 10), finish: make(chan struct{})}
	s.Set = httpserver.NewSet(func(key string) *httpserver.Server {
		return httpserver.New(httpserver.Options{
			Logger: slog.New(slog.DiscardHandler), HeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Hour,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					s.requests <- r.URL.Path
					<-s.finish
				}
				_, _ = io.WriteString(w, key)
			}),
		})
	})
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// prepare prepares a change to listeners with the given keys and addresses.
func (s *testSet) prepare(want map[string]string) (*httpserver.Change, error) {
	s.t.Helper()
	parsed := map[string]listen.Address{}
	for key, text := range want {
		a, err := listen.Parse(text)
		if err != nil {
			s.t.Fatal(err)
		}
		parsed[key] = a
	}
	return s.Prepare(s.t.Context(), parsed)
}

// change makes the set have listeners with the given keys and addresses.
func (s *testSet) change(want map[string]string) {
	s.t.Helper()
	c, err := s.prepare(want)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Commit()
}

const getRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// TestSetAppliesChanges checks that a change opens and closes listeners, does not touch the others, and completes the
// requests in flight of a closed listener.
func TestSetAppliesChanges(t *testing.T) {
	s := startSet(t)
	s.change(map[string]string{"a": "127.0.0.1:0", "b": "127.0.0.1:0"})
	addressA, addressB := s.Addr("a").String(), s.Addr("b").String()
	kept, keptReader := dial(t, addressA)
	idle, idleReader := dial(t, addressB)
	busy, busyReader := dial(t, addressB)
	send := func(c net.Conn, request string) {
		t.Helper()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
	send(kept, getRequest)
	nextResponse(t, keptReader)
	send(idle, getRequest)
	nextResponse(t, idleReader)
	send(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-s.requests

	s.change(map[string]string{"a": "127.0.0.1:0", "c": "127.0.0.1:0"})
	if c, err := net.Dial("tcp", addressB); err == nil {
		_ = c.Close()
		t.Error("the removed listener accepts connections")
	}
	if _, err := idleReader.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection of the removed listener: %v", err)
	}
	close(s.finish)
	if res := nextResponse(t, busyReader); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("the request in flight: %d, close %v", res.StatusCode, res.Close)
	}
	send(kept, getRequest)
	if res := nextResponse(t, keptReader); res.StatusCode != http.StatusOK || s.Addr("a").String() != addressA {
		t.Errorf("the listener that did not change: %d, %v", res.StatusCode, s.Addr("a"))
	}
	added, addedReader := dial(t, s.Addr("c").String())
	send(added, getRequest)
	if body, _ := io.ReadAll(nextResponse(t, addedReader).Body); string(body) != "c" {
		t.Errorf("the new listener has the key %q", body)
	}
}

// TestSetChangesNothingOnError checks that Prepare leaves everything as it was if one address can't be opened.
func TestSetChangesNothingOnError(t *testing.T) {
	s := startSet(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "a")
	s.change(map[string]string{"a": "unix://" + path + "?mode=0600"})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for range 10 { // the order of the addresses is random
		_, err = s.prepare(map[string]string{
			"a": "unix://" + path + "?mode=0666", "b": "unix://" + filepath.Join(folder, "b"), "taken": taken.Addr().String(),
		})
		if failed := (*httpserver.OpenError)(nil); !errors.As(err, &failed) || failed.Key != "taken" || !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("error %v", err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		if _, err := os.Stat(filepath.Join(folder, "b")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the socket of the rejected change: %v", err)
		}
	}
	s.change(map[string]string{"a": "unix://" + path + "?mode=0666"})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	s.change(nil)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket of the removed listener: %v", err)
	}
}

// TestSetShutdownWaitsForClosedListeners checks that Shutdown also waits for requests of listeners that a change has closed.
func TestSetShutdownWaitsForClosedListeners(t *testing.T) {
	s := startSet(t)
	s.change(map[string]string{"a": "127.0.0.1:0"})
	c, r := dial(t, s.Addr("a").String())
	_, _ = fmt.Fprint(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-s.requests
	s.change(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a request in flight: %v", err)
	}
	close(s.finish)
	if res := nextResponse(t, r); res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
