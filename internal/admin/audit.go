package admin

import (
	"fmt"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// maxReason is the maximum length of a reason in characters.
const maxReason = 1000

type action = events.AdminAction

// audit logs and publishes an action that r requested, whether it succeeded or failed. fields are key-value pairs that are
// logged only.
func (a *api) audit(r *http.Request, done action, fields ...any) {
	done.Time, done.Remote = time.Now().UTC(), r.RemoteAddr
	attributes := []any{"action", done.Action, "remote", done.Remote}
	for _, field := range [][2]string{
		{"service", done.Service}, {"request", done.Request}, {"fault", done.Fault}, {"state", done.State}, {"kind", string(done.Kind)},
		{"duration", done.Duration}, {"scope", done.Scope}, {"reason", done.Reason}, {"error", done.Error},
	} {
		if field[1] != "" {
			attributes = append(attributes, field[0], field[1])
		}
	}
	if done.Share != 0 {
		attributes = append(attributes, "share", done.Share)
	}
	if len(done.Set) > 0 {
		set, _ := encode(done.Set) // never fails: the values are JSON
		attributes = append(attributes, "set", string(set))
	}
	a.Logger.Info("admin action", append(attributes, fields...)...)
	a.Bus.Publish(done)
}

// reasonOf returns the query parameter reason. If it is too long, it responds with a problem and returns false.
func reasonOf(w http.ResponseWriter, r *http.Request) (reason string, ok bool) {
	reason = r.URL.Query().Get("reason")
	if len([]rune(reason)) > maxReason {
		writeProblem(w, http.StatusBadRequest, "the query is invalid", fmt.Sprintf("reason: must be at most %d characters", maxReason))
		return "", false
	}
	return reason, true
}

// text returns the text of err; "" if err is nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
