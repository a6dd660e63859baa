package admin

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/outcomes"
)

// outcomesBuffer is how many bytes of lines are written at once.
const outcomesBuffer = 32 << 10

// outcomes streams the recorded calls as lines of JSON.
func (a *api) outcomes(w http.ResponseWriter, r *http.Request) {
	query, now := r.URL.Query(), time.Now()
	var faults []string
	at := func(key string) time.Time {
		t, err := parseTime(query.Get(key), now)
		if err != nil {
			faults = append(faults, key+": "+err.Error())
		}
		return t
	}
	since, until := at("since"), at("until")
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the query is invalid", faults...)
		return
	}
	service := query.Get("service")
	if _, ok := a.Backend.Service(service); service != "" && !ok {
		writeProblem(w, http.StatusNotFound, "no service is named "+strconv.Quote(service))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	sent := &deadlineWriter{w: w, control: http.NewResponseController(w)}
	out := bufio.NewWriterSize(sent, outcomesBuffer)
	var line []byte
	err := a.Backend.Outcomes(r.Context(), service, since, until, func(service string, c events.Call) error {
		line = outcomes.AppendLine(line[:0], service, &c)
		_, err := out.Write(line)
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	switch {
	case err == nil:
	case sent.begun || r.Context().Err() != nil:
		a.Logger.Debug("cannot send the outcomes of calls", "error", err)
		panic(http.ErrAbortHandler) // so that the client does not take it for the end
	default:
		writeProblem(w, http.StatusInternalServerError, err.Error())
	}
}

// parseTime returns the time in a query: in RFC 3339, in Unix seconds, or as a duration before now, such as 24h; the zero time if text is
// empty.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("must be a time such as 2026-01-31T12:00:00Z, Unix seconds, or a duration before now such as 24h, got %q", text)
}

// deadlineWriter sends each write at once, within streamTimeout.
type deadlineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (d *deadlineWriter) Write(p []byte) (int, error) {
	d.begun = true
	if err := writeNow(d.w, d.control, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
