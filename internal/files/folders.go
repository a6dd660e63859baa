package files

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// folders waits for events in a set of folders. It ignores the kind and the file name of an event,
// which are not reliable when files are renamed and links are swapped. Not safe for concurrent use.
type folders struct {
	events  *fsnotify.Watcher // nil if the system provides no events
	watched map[string]os.FileInfo
	warn    func(error)
}

func newFolders(w Watcher) *folders {
	f := &folders{watched: map[string]os.FileInfo{}, warn: w.Warn}
	if f.warn == nil {
		f.warn = func(error) {}
	}
	if w.newEvents == nil {
		w.newEvents = fsnotify.NewWatcher
	}
	events, err := w.newEvents()
	if err != nil {
		f.warn(fmt.Errorf("watch %s: %w", w.Path, err))
		return f
	}
	f.events = events
	return f
}

// watch sets the folders to watch to paths. If a watched folder was replaced by another one of the
// same name, the new one is watched.
func (f *folders) watch(paths []string) {
	if f.events == nil {
		return
	}
	wanted := make(map[string]bool, len(paths))
	for _, path := range paths {
		wanted[path] = true
		info, err := os.Stat(path)
		if old := f.watched[path]; err != nil || old != nil && os.SameFile(old, info) {
			continue
		}
		_ = f.events.Remove(path) // fails if the folder was removed and its watch with it
		_, tried := f.watched[path]
		f.watched[path] = info
		if err := f.events.Add(path); err != nil && !tried {
			f.warn(fmt.Errorf("watch folder %s: %w", path, err))
		}
	}
	for path := range f.watched {
		if !wanted[path] {
			_ = f.events.Remove(path)
			delete(f.watched, path)
		}
	}
}

// wait blocks until an event (it then returns true), a tick, or the end of ctx. It consumes all
// pending events.
func (f *folders) wait(ctx context.Context, tick <-chan time.Time) (event bool) {
	if f.events == nil {
		select {
		case <-ctx.Done():
		case <-tick:
		}
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-tick:
		return false
	case <-f.events.Events:
	case <-f.events.Errors: // events were lost: check the file
	}
	for {
		select {
		case <-f.events.Events:
		case <-f.events.Errors:
		default:
			return true
		}
	}
}

func (f *folders) close() {
	if f.events != nil {
		_ = f.events.Close()
	}
}
