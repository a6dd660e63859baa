package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cbproxy/internal/problem"
)

// respond writes v as JSON.
func respond(w http.ResponseWriter, status int, v any) {
	body, err := encode(v)
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, "encode the response: "+err.Error())
		return
	}
	write(w, status, "application/json", body)
}

// encode returns v as JSON in which <, > and & are not escaped: values of the configuration have them, and responses are never read as
// HTML.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// writeProblem writes an RFC 9457 problem; faults lists the individual errors.
func writeProblem(w http.ResponseWriter, status int, detail string, faults ...string) {
	write(w, status, problem.ContentType, problem.Body(status, detail, faults...))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // #nosec G705 -- the content type is JSON; the client may have disconnected
}

// forService wraps a handler of a path with the name of a service. It responds with 404 if no service has that name.
func (a *api) forService(h func(w http.ResponseWriter, r *http.Request, service string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("service")
		if _, ok := a.Backend.Service(name); !ok {
			unknownService(w, r)
			return
		}
		h(w, r, name)
	}
}

func unknownService(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, http.StatusNotFound, "no service is named "+strconv.Quote(r.PathValue("service")))
}

// only wraps a handler that allows a single method. It responds to other methods with 405. GET includes HEAD.
func only(method string, h http.HandlerFunc) http.Handler {
	allowed := []string{method}
	if method == http.MethodGet {
		allowed = append(allowed, http.MethodHead)
	}
	return allow(allowed, h)
}

// allow wraps a handler that allows some methods. It responds to others with 405.
func allow(allowed []string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(allowed, r.Method) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			writeProblem(w, http.StatusMethodNotAllowed, "the method must be "+strings.Join(allowed, " or "))
			return
		}
		h(w, r)
	})
}
