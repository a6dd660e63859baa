package routes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	watchTick  = 500 * time.Millisecond // a look at the file's metadata even without an event
	quietTime  = 20 * time.Millisecond  // content that stays the same for so long is what was meant
	settleTime = 200 * time.Millisecond // a file that keeps changing, or is still empty, is taken as it is by then
)

// Watcher follows the content of a file: through edits in place, renames over it, swaps of
// symlinks on the way to it (a Kubernetes ConfigMap's ..data), and while it or its folder is
// gone for a time.
type Watcher struct {
	// Path of the file.
	Path string
	// Last is the content that is already known.
	Last []byte
	// Changed is called with each new content, one call at a time, within some 50 ms of an
	// event, and within 600 ms where the system tells of none. Content beyond MaxFileBytes is cut
	// off one byte later. An edit is skipped if the next one follows before it was looked at.
	Changed func(content []byte)
	// Warn, if set, is called when file events can't be had and changes take longer to be noticed.
	Warn func(err error)

	newEvents func() (*fsnotify.Watcher, error) // fsnotify.NewWatcher unless a test wants it to fail
}

// Watch calls Changed and Warn until ctx is done, and leaves nothing running.
func (w Watcher) Watch(ctx context.Context) {
	folders := newFolders(w)
	defer folders.close()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	last := sha256.Sum256(w.Last)
	events, seen := true, "" // look once at the start: the file may have changed since it was loaded
	for ctx.Err() == nil {
		trail := follow(w.Path)
		folders.watch(trail.folders)
		if mark := trail.mark; events || mark != seen {
			seen = mark
			w.look(ctx, &last)
		}
		events = folders.wait(ctx, tick.C)
	}
}

// look calls Changed if the file has new content.
func (w Watcher) look(ctx context.Context, last *[sha256.Size]byte) {
	content, ok := settle(ctx, w.Path, *last)
	if !ok {
		return
	}
	if sum := sha256.Sum256(content); sum != *last {
		*last = sum
		w.Changed(content)
	}
}

// settle reads the file until two readings are equal. An empty file is more likely one that is
// being written, and gets more time. ok is false if the file can't be read, has the known
// content, or ctx is done.
func settle(ctx context.Context, path string, known [sha256.Size]byte) (content []byte, ok bool) {
	start := time.Now()
	for {
		if !pause(ctx, quietTime) {
			return nil, false
		}
		next, err := readRegular(path, MaxFileBytes)
		if err != nil {
			return nil, false
		}
		if sha256.Sum256(next) == known {
			return nil, false
		}
		same, age := ok && bytes.Equal(content, next), time.Since(start)
		content, ok = next, true
		if same && len(next) > 0 || age >= settleTime {
			return content, true
		}
	}
}

// pause waits and tells whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
