package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

const (
	streamQueue     = 256              // events a slow reader may be behind
	streamHeartbeat = 15 * time.Second // so that a broken connection is noticed
	streamPatience  = 10 * time.Second // for a reader to take one event
)

// events streams what happens as server-sent events. It begins with a snapshot, and sends
// another where the reader was too slow and events are missing.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	sub := a.Bus.Subscribe(streamQueue)
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	if send(w, control, "snapshot", a.Proxy.Health()) != nil {
		return
	}
	for {
		ctx, cancel := context.WithTimeout(r.Context(), streamHeartbeat)
		e, missed, err := sub.Next(ctx)
		cancel()
		switch {
		case r.Context().Err() != nil:
			return
		case err == context.DeadlineExceeded:
			if writeEvent(w, control, ": alive\n\n") != nil {
				return
			}
			continue
		case err != nil:
			return
		case missed > 0 && send(w, control, "snapshot", a.Proxy.Health()) != nil:
			return
		}
		if send(w, control, eventName(e), e) != nil {
			return
		}
	}
}

func eventName(e events.Event) string {
	switch e.(type) {
	case events.StateChanged:
		return "state_changed"
	case events.Forced:
		return "forced"
	case events.ProbeGranted:
		return "probing"
	case events.QueueChanged:
		return "queue_changed"
	case events.AdminAction:
		return "admin_action"
	default:
		return "reloaded"
	}
}

func send(w http.ResponseWriter, control *http.ResponseController, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeEvent(w, control, fmt.Sprintf("event: %s\ndata: %s\n\n", name, data))
}

// writeEvent writes one event or comment, and gives up a reader that does not take it.
func writeEvent(w http.ResponseWriter, control *http.ResponseController, text string) error {
	_ = control.SetWriteDeadline(time.Now().Add(streamPatience)) // a test's recorder has none
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return err
	}
	_ = control.SetWriteDeadline(time.Time{}) // which ends a stream of HTTP/2 that has nothing to write, too
	return nil
}
