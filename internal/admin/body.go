package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"time"
)

// maxBody is the size in bytes of the longest body of a request that is read.
const maxBody = 64 << 10

// readRequest returns what parse makes of the keys in r's body, which is a JSON object such as example. parse returns all faults at once.
// If the request is invalid, readRequest responds with a problem and returns false.
func readRequest[T any](w http.ResponseWriter, r *http.Request, example string, parse func(fields map[string]json.RawMessage) (T, []string)) (T, bool) {
	var request T
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
		writeProblem(w, http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
		return request, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body must be at most %d bytes", maxBody))
		return request, false
	} else if err != nil {
		writeProblem(w, http.StatusBadRequest, "the body is incomplete")
		return request, false
	}
	fields, faults := parseObject(body, example)
	if fields != nil {
		var more []string
		request, more = parse(fields)
		faults = append(faults, more...)
	}
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the body is invalid", faults...)
		return request, false
	}
	return request, true
}

// parseObject returns the keys of a JSON object such as example; nil if body is none.
func parseObject(body []byte, example string) (fields map[string]json.RawMessage, faults []string) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&fields); err != nil || fields == nil {
		return nil, []string{"the body must be a JSON object such as " + example}
	}
	if _, err := decoder.Token(); err != io.EOF {
		faults = append(faults, "the body must be a single JSON object")
	}
	return fields, faults
}

// faultList collects the faults of a body.
type faultList []string

func (l *faultList) add(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

// parseValue parses a value of the type T, which must not be null.
func parseValue[T any](value json.RawMessage) (v T, ok bool) {
	if bytes.Equal(value, []byte("null")) {
		return v, false
	}
	err := json.Unmarshal(value, &v)
	return v, err == nil
}

// parseDuration parses a positive duration: a text such as "10m", or a number of seconds.
func parseDuration(value json.RawMessage) (time.Duration, bool) {
	if seconds, ok := parseValue[float64](value); ok {
		d := seconds * float64(time.Second)
		return time.Duration(d), d > 0 && d < math.MaxInt64
	}
	text, ok := parseValue[string](value)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// parseReason parses the operator's reason, and adds a fault if it is invalid.
func (l *faultList) parseReason(value json.RawMessage) (reason string) {
	if json.Unmarshal(value, &reason) != nil || len([]rune(reason)) > maxReason {
		l.add("reason: must be a string of at most %d characters", maxReason)
	}
	return reason
}
