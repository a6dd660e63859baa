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
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := httputil.DumpRequest(r, true)
		if err != nil {
			panic(http.ErrAbortHandler) // the client has disconnected
		}
		rule := ruleFor(file, raw)
		// A single write, so that a kill leaves a complete line or none.
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
