package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"time"
)

// serveRecorder runs a recorder that listens at address and appends each request to file. It returns only on an error.
func serveRecorder(address, file string) error {
	out, err := OpenRecord(file)
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := httputil.DumpRequest(r, true)
		if err != nil {
			panic(http.ErrAbortHandler) // the client has disconnected
		}
		rule := ruleFor(file, raw)
		// A single write, so that records of concurrent requests do not mix.
		if _, err := fmt.Fprintf(out, "%d %d %s\n", time.Now().UnixMicro(), rule.Status, base64.StdEncoding.EncodeToString(raw)); err != nil {
			panic(err)
		}
		time.Sleep(rule.Delay)
		for name, value := range rule.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(rule.Status)
		_, _ = io.WriteString(w, rule.Body)
	}))
}

// OpenRecord opens a file of lines to append to. It removes an incomplete last line, as a kill can end a write after a part of it.
// No other process may have the file open for writing.
func OpenRecord(file string) (*os.File, error) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(out)
	if err != nil {
		return nil, err
	}
	return out, out.Truncate(int64(bytes.LastIndexByte(content, '\n') + 1))
}

// ruleFor returns the rule that applies to a request.
func ruleFor(file string, request []byte) Rule {
	text, _ := os.ReadFile(rulesFile(file)) // the file may not exist
	var rules []Rule
	_ = json.Unmarshal(text, &rules)
	for _, r := range rules {
		if bytes.Contains(request, []byte(r.In)) {
			return r
		}
	}
	return Rule{Status: http.StatusOK}
}

// rulesFile returns the name of the file that has the rules of a recorder.
func rulesFile(recordFile string) string { return recordFile + ".rules" }
