package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	pollInterval  = 500 * time.Millisecond // how often the file's metadata is compared without an event
	stableTime    = 20 * time.Millisecond  // content that does not change for this long counts as complete
	maxSettleTime = 200 * time.Millisecond // after this time a file that keeps changing, or stays empty, is taken as it is
)

// Watcher reports changes of a file's content: edits in place, renames over the file, and swaps of
// symbolic links on its path, such as ..data of a Kubernetes ConfigMap. The file and its folder may
// be missing for a time.
type Watcher struct {
	// Path of the file.
	Path string
	// Last is the content that is already known.
	Last []byte
	// MaxBytes limits how much of the file is read: a longer file is reported with MaxBytes+1 bytes.
	MaxBytes int64
	// Changed is called with each new content, one call at a time, about 50 ms after a file system
	// event, or within 600 ms if there are no events. An edit that is followed by another one before
	// the file is read is not reported.
	Changed func(content []byte)
	// Warn, if not nil, is called when file system events are not available, so that changes are
	// noticed by polling only.
	Warn func(err error)

	newEvents func() (*fsnotify.Watcher, error) // fsnotify.NewWatcher if nil; tests replace it
}

// Watch calls Changed and Warn until ctx is done. When it returns, no goroutine is left.
func (w Watcher) Watch(ctx context.Context) {
	folders := newFolders(w)
	defer folders.close()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := sha256.Sum256(w.Last)
	event, seen := true, "" // read once at the start: the file may have changed since it was loaded
	for ctx.Err() == nil {
		path := resolve(w.Path)
		folders.watch(path.folders)
		if event || path.fingerprint != seen {
			seen = path.fingerprint
			w.check(ctx, &last)
		}
		event = folders.wait(ctx, tick.C)
	}
}

// check calls Changed if the content of the file differs from last.
func (w Watcher) check(ctx context.Context, last *[sha256.Size]byte) {
	content, ok := w.readStable(ctx, *last)
	if !ok {
		return
	}
	if sum := sha256.Sum256(content); sum != *last {
		*last = sum
		w.Changed(content)
	}
}

// readStable reads the file until two readings are equal. It waits longer for an empty file, which
// is probably being written. ok is false if the file cannot be read, has the known content, or ctx
// is done.
func (w Watcher) readStable(ctx context.Context, known [sha256.Size]byte) (content []byte, ok bool) {
	start := time.Now()
	for {
		if !sleep(ctx, stableTime) {
			return nil, false
		}
		next, err := ReadRegular(w.Path, w.MaxBytes)
		if err != nil {
			return nil, false
		}
		if sha256.Sum256(next) == known {
			return nil, false
		}
		same, elapsed := ok && bytes.Equal(content, next), time.Since(start)
		content, ok = next, true
		if same && len(next) > 0 || elapsed >= maxSettleTime {
			return content, true
		}
	}
}

// sleep waits for d. It returns false if ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
