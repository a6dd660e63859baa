package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// respond writes v as JSON.
func respond(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, "encode the answer: "+err.Error())
		return
	}
	write(w, status, "application/json", body)
}

// problem writes an RFC 9457 problem; faults are its details, one by one.
func problem(w http.ResponseWriter, status int, detail string, faults ...string) {
	body, _ := json.Marshal(struct { // strings and an int always marshal
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Status int      `json:"status"`
		Detail string   `json:"detail"`
		Faults []string `json:"faults,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail, faults})
	write(w, status, "application/problem+json", body)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone misses nothing
}

func unknownService(w http.ResponseWriter, r *http.Request) {
	problem(w, http.StatusNotFound, "no service is named "+strconv.Quote(r.PathValue("service")))
}

// only answers other methods than the given one, and HEAD where that is GET, with 405.
func only(method string, h http.HandlerFunc) http.Handler {
	allowed := []string{method}
	if method == http.MethodGet {
		allowed = append(allowed, http.MethodHead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(allowed, r.Method) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			problem(w, http.StatusMethodNotAllowed, "the method must be "+strings.Join(allowed, " or "))
			return
		}
		h(w, r)
	})
}
