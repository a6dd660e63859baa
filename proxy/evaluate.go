package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/message"
	"cbproxy/internal/tunnel"
	"cbproxy/internal/upstream"
)

// errStatus means that a fallback replaces a response with a failing status.
var errStatus = errors.New("the upstream's status is a failure")

// evaluate classifies the upstream's response by its header section, and prepares the evaluation of its body. upgrade is the
// protocol in the request's Upgrade field, protocol the one in the response's.
func (a *attempt) evaluate(res *http.Response, protocol, upgrade string) error {
	x := a.x
	a.requestHeader, a.status, a.retryAfter = res.Request.Header, res.StatusCode, res.Header.Get("Retry-After")
	a.trace.ResponseReceived(res)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return a.evaluateUpgrade(res, protocol, upgrade)
	}
	if res.StatusCode < 200 {
		err := fmt.Errorf("malformed response: status %03d", res.StatusCode)
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	switch {
	case isLoop(res) && x.r.Header["Via"] != nil:
		a.reportCancelled() // the client may have sent the Via field that made a proxy behind this one detect a loop
	case res.StatusCode == http.StatusRequestTimeout && x.upload.IsStalling(): // the client's fault
	case x.route.Config.Breaker.FailureStatuses.Has(res.StatusCode):
		a.reportFailure(events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode))
		if x.route.HasFallbackFor(events.ReasonStatus) {
			return errStatus
		}
	}
	stream := isStream(res)
	if x.grpc != nil && grpc.Is(res.Header) {
		a.evaluateGRPC(res.Header)
		stream = stream || res.Body != http.NoBody
	}
	var recorder fallbacks.Recorder
	if x.route.Chain != nil && x.grpc == nil && a.failure == nil {
		recorder = x.route.Chain.Record(recordingClient{a}, res.StatusCode, res.Header)
	}
	switch {
	case res.Body == http.NoBody || x.r.Method == http.MethodHead:
		a.reportSuccess()
		recordBody(recorder)
		return nil
	case !stream && res.ContentLength <= int64(x.route.Config.ResponseBuffer):
		return a.readWhole(res, recorder)
	case stream:
		return a.evaluateStream(res, recorder)
	}
	x.download.begin(a, res, recorder)
	res.Body = &x.download
	return nil
}

// recordBody ends the recording of a response. parts are the last parts of its body.
func recordBody(recorder fallbacks.Recorder, parts ...[]byte) {
	if recorder == nil {
		return
	}
	for _, part := range parts {
		recorder.Write(part)
	}
	recorder.Done()
}

// evaluateUpgrade counts a new tunnel as a success: its end may be far away.
func (a *attempt) evaluateUpgrade(res *http.Response, protocol, upgrade string) error {
	x := a.x
	if upgrade == "" || !strings.EqualFold(upgrade, protocol) {
		err := fmt.Errorf("malformed response: status 101 to %q, asked for %q", protocol, upgrade)
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	c, ok := res.Body.(io.ReadWriteCloser)
	if !ok { // http.Transport promises that it is one
		err := errors.New("malformed response: status 101 without a connection")
		a.reportFailure(events.ErrorProtocol, err)
		return err
	}
	res.Header["Connection"], res.Header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	x.openTunnel(res, c)
	a.reportSuccess()
	return nil
}

// cleanHeader deletes the hop-by-hop fields of the attempt's response, before anything else reads its header, and returns its
// Upgrade field.
func (a *attempt) removeHopByHop(res *http.Response) (protocol string) {
	if a.conn != nil {
		a.conn.RestoreFields(res.Header)
	}
	protocol = res.Header.Get("Upgrade")
	a.hopByHop = upstream.RemoveHopByHop(res.Header)
	return protocol
}

// cleanTrailer deletes the hop-by-hop fields and the proxy's own from the response's trailers. It is called when the announced
// trailers are known, and again when all are.
func (a *attempt) removeTrailerFields(res *http.Response) {
	upstream.RemoveHopByHopTrailers(res.Trailer, a.hopByHop)
	message.RemoveProxyResponseFields(res.Trailer)
}

// openTunnel makes c, the connection of res, the exchange's tunnel. All data from either side resets the timer.
func (x *exchange) openTunnel(res *http.Response, c io.ReadWriteCloser) {
	idle := x.route.Config.IdleTimeout
	config := tunnel.Config{Upstream: c, IdleTimeout: idle, OnData: func() { x.resetTimer(idle) }}
	if conn := x.attempt.conn; conn != nil {
		conn.BeginTunnel()
		config.SetWriteDeadline = conn.Conn.SetWriteDeadline // without the limit for the close of a connection
	}
	t := tunnel.New(config)
	res.Body = t
	x.server.tunnels.Add(1)
	x.responded = true
	x.tunnel.Store(t)
	x.resetTimer(idle)
}

// isLoop reports whether res is the response by which this kind of proxy reports a loop.
func isLoop(res *http.Response) bool {
	return res.StatusCode == http.StatusLoopDetected && slices.Equal(res.Header["Proxy-Status"], loopDetected.ProxyStatus())
}
