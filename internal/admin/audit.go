package admin

import (
	"fmt"
	"net/http"
	"strconv"
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
		{"share", shareText(done.Share)}, {"duration", done.Duration},
		{"scope", done.Scope}, {"reason", done.Reason}, {"error", done.Error},
	} {
		if field[1] != "" {
			attributes = append(attributes, field[0], field[1])
		}
	}
	a.Logger.Info("admin action", append(attributes, fields...)...)
	a.Bus.Publish(done)
}

// shareText returns a share as text; "" if it is 0.
func shareText(share float64) string {
	if share == 0 {
		return ""
	}
	return strconv.FormatFloat(share, 'g', -1, 64)
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
