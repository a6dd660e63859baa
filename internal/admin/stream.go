package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

const (
	streamBuffer    = 256              // events buffered for a slow client
	streamHeartbeat = 15 * time.Second // idle time after which a comment is sent, to detect broken connections
	streamTimeout   = 10 * time.Second // for writing one event
)

// events streams events as server-sent events. It starts with a snapshot, and sends another one whenever a slow client has
// missed events.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	sub := a.Bus.Subscribe(streamBuffer)
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	if send(w, control, "snapshot", a.Backend.Health()) != nil {
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
		case missed > 0 && send(w, control, "snapshot", a.Backend.Health()) != nil:
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
	case events.UntilChanged:
		return "until_changed"
	case events.Forced:
		return "forced"
	case events.AdmissionChanged:
		return "admission_changed"
	case events.FaultStarted:
		return "fault_started"
	case events.FaultEnded:
		return "fault_ended"
	case events.OverridesChanged:
		return "overrides_changed"
	case events.AdaptiveReport:
		return "adaptive"
	case events.KeyStateChanged:
		return "key_state_changed"
	case events.EndpointChanged:
		return "endpoint_changed"
	case events.EndpointsChanged:
		return "endpoints_changed"
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

// writeEvent writes one event or comment within streamTimeout.
func writeEvent(w http.ResponseWriter, control *http.ResponseController, text string) error {
	return writeNow(w, control, []byte(text))
}

// writeNow sends a part of a response at once, within streamTimeout.
func writeNow(w http.ResponseWriter, control *http.ResponseController, part []byte) error {
	_ = control.SetWriteDeadline(time.Now().Add(streamTimeout)) // not supported by httptest.ResponseRecorder
	if _, err := w.Write(part); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return err
	}
	_ = control.SetWriteDeadline(time.Time{}) // in HTTP/2 an expired deadline would end an idle stream
	return nil
}
