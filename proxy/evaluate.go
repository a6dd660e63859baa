package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/problem"
	"cbproxy/internal/service"
	"cbproxy/internal/sse"
	"cbproxy/internal/tunnel"
)

// errStatus means that a fallback replaces a response with a failing status.
var errStatus = errors.New("the upstream's status is a failure")

// evaluate classifies the upstream's response by its header section, and prepares the evaluation of its body. gotUpgrade is
// the response's Upgrade field, wantUpgrade the request's.
func (a *attempt) evaluate(res *http.Response, gotUpgrade, wantUpgrade string) error {
	x := a.x
	a.status, a.retryAfter = res.StatusCode, res.Header.Get("Retry-After")
	a.trace.ResponseReceived(res)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return a.evaluateUpgrade(res, gotUpgrade, wantUpgrade)
	}
	if res.StatusCode < 200 {
		err := fmt.Errorf("malformed response: status %03d", res.StatusCode)
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	class, until := x.route.ClassifyStatus(res.StatusCode, a.retryAfter)
	switch {
	case problem.IsLoopDetected(res) && x.r.Header["Via"] != nil:
		a.reportCancelled() // the client may have sent the Via field that made a proxy behind this one detect a loop
	case res.StatusCode == http.StatusRequestTimeout && x.upload.IsStalling():
		// The upstream waited for the client's body. That is no failure, and is reported as a success below.
	case class == service.StatusRetryAfter:
		a.reportRetryAfter(until)
	case class == service.StatusIgnored:
		a.reportNeutral(events.ResultSuccess)
	case class == service.StatusFailure:
		a.reportFailure(events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode))
		if x.route.HasFallbackFor(events.ReasonStatus) {
			return errStatus
		}
	}
	stream := isStream(res)
	if x.grpc != nil && grpc.HasContentType(res.Header) {
		a.evaluateGRPC(res.Header)
		stream = stream || res.Body != http.NoBody
	}
	readsWhole := !stream && res.Body != http.NoBody && res.ContentLength <= int64(x.route.Config.ResponseBuffer)
	if !a.evaluatesFailureWhenLater(res, readsWhole) {
		if err := a.evaluateFailureWhen(res.Header, "", nil); err != nil {
			return err
		}
	}
	var recorder fallbacks.Recorder
	if x.route.Chain != nil && x.grpc == nil && a.failure == nil {
		recorder = x.route.Chain.Record(recordingClient{a}, res.StatusCode, res.Header)
	}
	switch {
	case res.Body == http.NoBody:
		a.reportSuccess()
		a.lease.Release()
		fallbacks.RecordBody(recorder)
		return nil
	case readsWhole:
		return a.readWhole(res, recorder)
	case stream:
		return a.evaluateStream(res, recorder)
	}
	x.download.begin(a, res, recorder, false)
	res.Body = &x.download
	return nil
}

// isStream reports whether a response has no Content-Length or is an event stream. Such a response is forwarded as it arrives.
func isStream(res *http.Response) bool {
	return res.ContentLength < 0 || sse.HasContentType(res.Header)
}

// evaluateStream prepares the evaluation of a stream. From now on the timer is the stream's idle timeout.
func (a *attempt) evaluateStream(res *http.Response, recorder fallbacks.Recorder) error {
	x := a.x
	x.download.begin(a, res, recorder, true)
	x.ResetTimer(x.route.Config.IdleTimeout)
	x.idleTimerActive.Store(true)
	x.download.watchStream()
	if names := x.route.Config.Breaker.SSEErrorEvents; len(names) > 0 && sse.HasContentType(res.Header) && res.Header["Content-Encoding"] == nil {
		x.download.events = sse.NewScanner(names)
	}
	if x.route.Config.StreamCommit == "first_byte" {
		if err := x.download.Hold(func() bool { return !x.download.watch.Load().AwaitsFirstEvent() }); err != nil {
			return err
		}
	}
	if !x.download.watch.Load().AwaitsFirstEvent() {
		a.streamBegun()
	}
	res.Body = &x.download
	return nil
}

// readWhole reads a small response before any of it is sent to the client, so that a fallback can replace one that ends early.
func (a *attempt) readWhole(res *http.Response, recorder fallbacks.Recorder) error {
	b := &a.x.buffered
	if err := b.Fill(res.Body, int(res.ContentLength)); err != nil {
		a.classify(err)
		return err
	}
	_ = res.Body.Close() // it has been read
	if err := a.evaluateFailureWhen(res.Header, a.x.outcome.GRPCStatus, b.Unread()); err != nil {
		_ = b.Close()
		return err
	}
	a.reportSuccess()
	a.lease.Release() // before the client has the response, and sends its next request
	if a.failure == nil {
		fallbacks.RecordBody(recorder, b.Unread())
	}
	res.Body = b
	return nil
}

// evaluateUpgrade opens a tunnel. That counts as a success, because a tunnel may stay open for hours.
func (a *attempt) evaluateUpgrade(res *http.Response, gotUpgrade, wantUpgrade string) error {
	x := a.x
	if wantUpgrade == "" || !strings.EqualFold(wantUpgrade, gotUpgrade) {
		err := fmt.Errorf("malformed response: status 101 to %q, asked for %q", gotUpgrade, wantUpgrade)
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	c, ok := res.Body.(io.ReadWriteCloser)
	if !ok { // http.Transport promises that it is one
		err := errors.New("malformed response: status 101 without a connection")
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	res.Header["Connection"], res.Header["Upgrade"] = []string{"Upgrade"}, []string{gotUpgrade}
	x.openTunnel(res, c)
	a.reportSuccess()
	return nil
}

// openTunnel makes c, the connection of res, the exchange's tunnel. All data from either side resets the timer.
func (x *exchange) openTunnel(res *http.Response, c io.ReadWriteCloser) {
	idle := x.route.Config.IdleTimeout
	config := tunnel.Config{Upstream: c, IdleTimeout: idle, OnData: func() { x.ResetTimer(idle) }}
	if conn := x.attempt.conn; conn != nil {
		conn.BeginTunnel()
		config.SetWriteDeadline = conn.Conn.SetWriteDeadline // without the limit for the close of a connection
	}
	t := tunnel.New(config)
	res.Body = t
	x.server.tunnels.Opened()
	x.proxyResponded = true
	x.tunnel.Store(t)
	x.ResetTimer(idle)
}
