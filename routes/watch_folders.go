package routes

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// folders turns events in some folders into wake-ups. It says nothing about what happened: kinds
// and names of events mislead where files are renamed and links are swapped. Not for concurrent use.
type folders struct {
	events  *fsnotify.Watcher // nil where the system has no events to give
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

// watch makes paths the folders that are watched. A folder that was replaced by another
// of the same name is watched anew.
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
		_ = f.events.Remove(path) // fails if the system has dropped it with the folder
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

// wait returns at an event (true), a tick (false), or the end of ctx. Events that have
// gathered count as one.
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
	case <-f.events.Errors: // events were lost, which is one
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
