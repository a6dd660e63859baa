package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// services calls the upstreams, each of which has its own path prefix at cbproxy.
type services struct{ base string }

// response is a service's response, or cbproxy's fallback.
type response struct {
	status int
	body   json.RawMessage
	by     string // the fallback strategy that answered; "" if the service did
}

// maxResponse is the number of bytes of a response that are read.
const maxResponse = 1 << 20

// call sends one request. If the service did not answer it completely, call appends a degradation to result.
// cbproxy's response header fields are enough to detect this: call does not inspect the body, and
// does not know which service has which path.
func (s services) call(ctx context.Context, result *status, path string, request any) (response, error) {
	content, err := json.Marshal(request)
	if err != nil {
		return response{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(content))
	if err != nil {
		return response{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if ctx.Err() != nil {
		return response{}, fmt.Errorf("read the response of %s: %w", path, err)
	}
	out := response{res.StatusCode, body, res.Header.Get("X-Fallback")}
	if out.by != "" || res.StatusCode >= 500 || err != nil {
		d := degradation{
			Service: res.Header.Get("X-Circuit-Breaker-Service"), By: out.by,
			Reason: res.Header.Get("X-Fallback-Reason"), Breaker: res.Header.Get("X-Circuit-Breaker-State"),
		}
		if err != nil { // the response broke off after its beginning was sent, when cbproxy could not replace it any more
			d.Error = err.Error()
		}
		result.Degraded = append(result.Degraded, d)
	}
	if !json.Valid(out.body) {
		out.body = json.RawMessage("null") // a response of the service that is not JSON, or a part of one
	}
	return out, nil
}
