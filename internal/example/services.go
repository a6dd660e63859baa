package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// services are the upstreams, each below its own prefix of cbproxy's.
type services struct{ base string }

// answer is a service's answer, or what cbproxy gave in its place.
type answer struct {
	status int
	body   json.RawMessage
	by     string // the fallback's strategy; "" if the service itself answered
}

const maxAnswer = 1 << 20

// call sends one request, and notes in done if cbproxy's header fields say that the service did not
// answer it. Nothing else needs to be looked at: no body is taken apart for it, and nothing is
// known of which service is behind which path.
func (s services) call(ctx context.Context, done *status, path string, request any) (answer, error) {
	content, err := json.Marshal(request)
	if err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("read %s's answer: %w", path, err)
	}
	a := answer{res.StatusCode, body, res.Header.Get("X-Fallback")}
	if a.by != "" || res.StatusCode >= 500 {
		done.Degraded = append(done.Degraded, degradation{
			Service: res.Header.Get("X-Circuit-Breaker-Service"), By: a.by,
			Reason: res.Header.Get("X-Fallback-Reason"), Breaker: res.Header.Get("X-Circuit-Breaker-State"),
		})
	}
	if !json.Valid(a.body) {
		a.body = json.RawMessage("null") // an error of the service's own, in words of its own
	}
	return a, nil
}
