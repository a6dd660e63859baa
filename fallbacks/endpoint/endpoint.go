// Package endpoint implements the fallback strategy http, which gets the answer from an HTTP endpoint
// that was written for this purpose. It is not named http, because it uses net/http.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/internal/httpclient"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// Strategy implements fallbacks.Strategy.
type Strategy struct {
	*upstream.Client
	maxBody int64
	headers []string // canonical names
}

// New returns a strategy for env. It shares the connections of env.Previous to the same server.
func New(o *Options, env fallbacks.Env) (fallbacks.Strategy, error) {
	var previous *upstream.SharedPool
	if p, ok := env.Previous.(*Strategy); ok {
		previous = p.Pool
	}
	c, err := httpclient.New(o.URL, routes.TLS{}, o.Timeout, o.MaxResponse, env, previous)
	if err != nil {
		return nil, err
	}
	s := &Strategy{Client: c, maxBody: int64(o.MaxBody)}
	for _, name := range o.Headers {
		s.headers = append(s.headers, http.CanonicalHeaderKey(name))
	}
	return s, nil
}

// BodyLimit returns max_body.
func (s *Strategy) BodyLimit() int64 { return s.maxBody }

// Start acquires the connections.
func (s *Strategy) Start() { s.Pool.Acquire() }

// Close releases the connections, which the next strategy may share.
func (s *Strategy) Close() error {
	s.Pool.Release()
	return nil
}

// Answer returns the answer in the endpoint's response.
func (s *Strategy) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	body, err := encodeRequest(r, s.headers)
	if err != nil {
		return nil, fmt.Errorf("encode the request to the endpoint: %w", err)
	}
	h := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {"cbproxy-fallback"}}
	if via := r.Header["Via"]; via != nil {
		h["Via"] = via // needed to detect a loop through the endpoint
	}
	res, failed := s.Fetch(ctx, s.NewRequest(http.MethodPost, "", "", h, body), checkStatus)
	if failed != nil {
		return nil, failed
	}
	a, err := decodeAnswer(res.Body)
	if err != nil {
		return nil, fmt.Errorf("decode the endpoint's response: %w", err)
	}
	return a, nil
}

func checkStatus(status int) error {
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusNoContent:
		return errors.New("the endpoint has no answer")
	}
	return fmt.Errorf("the endpoint's status is %d, want 200 or 204", status)
}
