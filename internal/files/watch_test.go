package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// waitLimit bounds how long a test waits for an expected event on a slow machine.
const waitLimit = 20 * time.Second

// watched is a watched file with the changes and warnings reported for it.
type watched struct {
	t       *testing.T
	path    string
	changes chan string
	warned  chan error
}

// startWatch watches path, whose known content is last, until the end of the test, and waits then for the watch to end.
func startWatch(t *testing.T, path, last string, w Watcher) *watched {
	t.Helper()
	f := &watched{t: t, path: path, changes: make(chan string, 1000), warned: make(chan error, 1000)}
	w.Path, w.Last, w.MaxBytes = path, []byte(last), 1<<20
	w.Changed = func(content []byte) { f.changes <- string(content) }
	w.Warn = func(err error) { f.warned <- err }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Watch(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

// want waits until content is reported. Older content may be reported before it, anything else may not.
func (f *watched) want(content string, older ...string) {
	f.t.Helper()
	allowed := map[string]bool{}
	for _, o := range older {
		allowed[o] = true
	}
	timeout := time.After(waitLimit)
	for {
		select {
		case got := <-f.changes:
			if got == content {
				return
			}
			if !allowed[got] {
				f.t.Fatalf("got %q, want %q", got, content)
			}
		case <-timeout:
			f.t.Fatalf("no report of %q", content)
		}
	}
}

// wantNothing fails the test if a change was reported before the one it makes itself.
func (f *watched) wantNothing() {
	f.t.Helper()
	write(f.t, f.path, "the end")
	f.want("the end")
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replace renames a new file over path.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	must(t, os.Rename(path+".new", path))
}

func TestWatchReportsEdits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	f := startWatch(t, path, "one", Watcher{})
	write(t, path, "two")
	f.want("two")
	replace(t, path, "three")
	f.want("three")
	must(t, os.Remove(path))
	write(t, path, "four")
	f.want("four")
	must(t, os.Remove(path))
	must(t, os.Symlink("elsewhere.yaml", path))
	write(t, filepath.Join(filepath.Dir(path), "elsewhere.yaml"), "five")
	f.want("five")
}

func TestWatchReportsChangeBeforeStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "two")
	startWatch(t, path, "one", Watcher{}).want("two")
}

func TestWatchIgnoresUnchangedContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	f := startWatch(t, path, "one", Watcher{})
	must(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	replace(t, path, "one")
	write(t, path+".other", "other")
	must(t, os.Remove(path))
	write(t, path, "one")
	f.wantNothing()
}

func TestWatchWaitsForMissingFileAndFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(folder, "config.yaml")
	f := startWatch(t, path, "one", Watcher{})
	for i := range 3 {
		must(t, os.MkdirAll(folder, 0o700))
		content := fmt.Sprint("content ", i)
		write(t, path, content)
		f.want(content)
		must(t, os.RemoveAll(filepath.Dir(folder)))
	}
}

func TestWatchFollowsRenamedFolder(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "conf", "config.yaml")
	must(t, os.Mkdir(filepath.Join(root, "conf"), 0o700))
	must(t, os.Mkdir(filepath.Join(root, "next"), 0o700))
	write(t, path, "one")
	write(t, filepath.Join(root, "next", "config.yaml"), "two")
	f := startWatch(t, path, "one", Watcher{})
	must(t, os.Rename(filepath.Join(root, "conf"), filepath.Join(root, "old")))
	must(t, os.Rename(filepath.Join(root, "next"), filepath.Join(root, "conf")))
	f.want("two")
	write(t, filepath.Join(root, "old", "config.yaml"), "stale")
	write(t, path, "three")
	f.want("three")
}

// configMap is a folder as Kubernetes mounts a ConfigMap: config.yaml -> ..data/config.yaml, ..data -> ..N.
type configMap struct {
	t      *testing.T
	folder string
	swaps  int
}

func (c *configMap) swap(content string) {
	c.t.Helper()
	c.swaps++
	old, _ := os.Readlink(filepath.Join(c.folder, "..data"))
	next := fmt.Sprintf("..%d", c.swaps)
	must(c.t, os.Mkdir(filepath.Join(c.folder, next), 0o700))
	write(c.t, filepath.Join(c.folder, next, "config.yaml"), content)
	must(c.t, os.Symlink(next, filepath.Join(c.folder, "..data_tmp")))
	must(c.t, os.Rename(filepath.Join(c.folder, "..data_tmp"), filepath.Join(c.folder, "..data")))
	if old != "" {
		must(c.t, os.RemoveAll(filepath.Join(c.folder, old)))
	}
}

func TestWatchFollowsConfigMap(t *testing.T) {
	m := &configMap{t: t, folder: t.TempDir()}
	m.swap("one")
	mounted := filepath.Join(m.folder, "config.yaml")
	must(t, os.Symlink("..data/config.yaml", mounted))
	path := filepath.Join(t.TempDir(), "link.yaml") // a link to a link to a link
	must(t, os.Symlink(mounted, path))
	f := startWatch(t, path, "one", Watcher{})
	for _, content := range []string{"two", "three", "four"} {
		m.swap(content)
		f.want(content)
	}
	m.swap("four")
	must(t, os.Remove(path))
	write(t, path, "five")
	f.want("five")
}

func TestWatchIgnoresPartialWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	f := startWatch(t, path, "one", Watcher{})
	for i := range 3 {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		must(t, err)
		time.Sleep(3 * stableTime) // between truncation and write
		content := fmt.Sprint("content ", i)
		_, err = file.WriteString(content)
		must(t, err)
		must(t, file.Close())
		f.want(content)
	}
}

func TestWatchReportsEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	f := startWatch(t, path, "one", Watcher{})
	write(t, path, "")
	f.want("")
}

func TestWatchReportsDuringContinuousWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	f := startWatch(t, path, "one", Watcher{})
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	timeout := time.After(waitLimit)
	for i, reports := 0, 0; reports < 10; i++ {
		replace(t, path, fmt.Sprint("content ", i))
		select {
		case <-every.C:
		case <-timeout:
			t.Fatalf("got %d reports while the file kept changing", reports)
		}
		for len(f.changes) > 0 {
			<-f.changes
			reports++
		}
		if i > 100 && reports == 0 {
			t.Fatal("no report while the file kept changing")
		}
	}
}

func TestWatchPollsWithoutEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "one")
	full := errors.New("too many open files")
	f := startWatch(t, path, "one", Watcher{newEvents: func() (*fsnotify.Watcher, error) { return nil, full }})
	if err := <-f.warned; !errors.Is(err, full) {
		t.Errorf("got warning %v, want %v", err, full)
	}
	write(t, path, "two")
	f.want("two")
	replace(t, path, "three")
	f.want("three")
}

func TestWatchDoesNotOpenPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.Symlink("/dev/stdin", path))
	f := startWatch(t, path, "one", Watcher{})
	must(t, os.Remove(path))
	write(t, path, "two")
	f.want("two")
}

func TestResolveStopsAtLinkLoop(t *testing.T) {
	folder := t.TempDir()
	must(t, os.Symlink("b", filepath.Join(folder, "a")))
	must(t, os.Symlink("a", filepath.Join(folder, "b")))
	if got := resolve(filepath.Join(folder, "a")).folders; len(got) == 0 || got[len(got)-1] != folder {
		t.Errorf("got folders %q, want %s among them", got, folder)
	}
}

func TestResolveDotDotAfterLink(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "real", "deep"), 0o700))
	must(t, os.Symlink("real/deep", filepath.Join(root, "link")))
	write(t, filepath.Join(root, "real", "config.yaml"), "one")
	got := resolve(root + "/link/../config.yaml").folders
	if len(got) != 2 || got[0] != root || got[1] != filepath.Join(root, "real") {
		t.Errorf("got %q, want the folders of the link and of the file", got)
	}
}

func TestWatchLeaksNoGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	before := runtime.NumGoroutine()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watcher{Path: path, MaxBytes: 1 << 20, Changed: func([]byte) { close(changed) }}.Watch(ctx)
		}()
		replace(t, path, "one")
		<-changed
		cancel()
		<-done
	}
	for deadline := time.Now().Add(waitLimit); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left of the %d there were", runtime.NumGoroutine(), before)
		}
	}
}
