package fallbacks

import (
	"log/slog"
	"net/http"
)

// Record returns a Recorder for the body of a response of the upstream, or nil if no strategy
// records it. All strategies that are Observers are called.
func (c *Chain) Record(client Client, status int, h http.Header) Recorder {
	if len(c.observers) == 0 {
		return nil
	}
	r := client.Request()
	var first Recorder
	var all recorders
	for _, s := range c.observers {
		r.Body, r.BodyError = client.Body(s.bodyLimit)
		recorder := s.record(c.logger, r, status, h)
		switch {
		case recorder == nil:
		case first == nil:
			first = recorder
		case all == nil:
			all = recorders{first, recorder}
		default:
			all = append(all, recorder)
		}
	}
	if all != nil {
		return all
	}
	return first
}

// record calls the strategy's Record. It returns nil if that panics.
func (s *step) record(logger *slog.Logger, r *Request, status int, h http.Header) Recorder {
	var recorder Recorder
	s.recoverPanic("record", logger, func() { recorder = s.strategy.(Observer).Record(r, status, h) })
	if recorder == nil {
		return nil
	}
	return &stepRecorder{s, logger, recorder}
}

// stepRecorder is a Recorder of one strategy. A panic ends the recording, and not the response.
type stepRecorder struct {
	step     *step
	logger   *slog.Logger
	recorder Recorder // nil after a panic
}

// Write implements Recorder.
func (r *stepRecorder) Write(part []byte) {
	if recorder := r.recorder; recorder != nil {
		r.recorder = nil
		r.step.recoverPanic("record a body", r.logger, func() {
			recorder.Write(part)
			r.recorder = recorder
		})
	}
}

// Done implements Recorder.
func (r *stepRecorder) Done() {
	if r.recorder != nil {
		r.step.recoverPanic("record the end of a body", r.logger, r.recorder.Done)
	}
}

// recorders are the Recorders of several strategies for one response.
type recorders []Recorder

// Write implements Recorder.
func (all recorders) Write(part []byte) {
	for _, r := range all {
		r.Write(part)
	}
}

// Done implements Recorder.
func (all recorders) Done() {
	for _, r := range all {
		r.Done()
	}
}
