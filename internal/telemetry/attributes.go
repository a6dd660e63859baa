package telemetry

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// Attributes that are not part of the semantic conventions.
const (
	serviceKey        = attribute.Key("cbproxy.service")
	stateKey          = attribute.Key("cbproxy.breaker.state")
	decisionKey       = attribute.Key("cbproxy.decision") // admitted or rejected
	reasonKey         = attribute.Key("cbproxy.reason")   // of a rejection, a value of X-Fallback-Reason
	outcomeKey        = attribute.Key("cbproxy.outcome")  // a value of the requests metric's label
	attemptsKey       = attribute.Key("cbproxy.attempts")
	failureKey        = attribute.Key("cbproxy.failure") // of the last attempt, a value of the failures metric's label
	strategyKey       = attribute.Key("cbproxy.fallback.strategy")
	fallbackReasonKey = attribute.Key("cbproxy.fallback.reason")
	shedKey           = attribute.Key("cbproxy.shed") // the limit that rejected the request
	budgetSpentKey    = attribute.Key("cbproxy.retry_budget_spent")
	waitKey           = attribute.Key("cbproxy.retry.wait") // in seconds
	cutKey            = attribute.Key("cbproxy.cut")        // the response is incomplete
	deliveryKey       = attribute.Key("cbproxy.delivery")   // the attempt delivers a queued request
	faultIDKey        = attribute.Key("cbproxy.fault.id")   // of the fault that is injected into the attempt
	faultKindKey      = attribute.Key("cbproxy.fault.kind")
	endpointKey       = attribute.Key("cbproxy.endpoint") // that the attempt is sent to
	hedgeKey          = attribute.Key("cbproxy.hedge")    // won or lost, of an attempt that is a hedge
)

// maxText is the maximum length of an untrusted text in an attribute, in bytes. It bounds the memory of spans that wait for
// export.
const maxText = 1 << 10

// text returns an attribute with an untrusted text. The text is made valid UTF-8, as an exporter would drop the whole batch
// otherwise.
func text(key attribute.Key, s string) attribute.KeyValue {
	return key.String(sanitize.Line(s, maxText))
}

// otherMethod replaces methods that HTTP does not define, because clients can send any number of them.
const otherMethod = "_OTHER"

// knownMethod returns method if HTTP defines it, and otherMethod otherwise.
func knownMethod(method string) string {
	switch method {
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodTrace:
		return method
	}
	return otherMethod
}

// methodName returns the method as it appears in the name of a span.
func methodName(method string) string {
	if name := knownMethod(method); name != otherMethod {
		return name
	}
	return "HTTP"
}

func methodAttributes(method string) []attribute.KeyValue {
	if known := knownMethod(method); known != otherMethod {
		return []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(known)}
	}
	return []attribute.KeyValue{semconv.HTTPRequestMethodOther, text(semconv.HTTPRequestMethodOriginalKey, method)}
}

// requestAttributes returns the attributes of a client's request that are known at its start. Query strings are left out, as
// they may contain secrets.
func requestAttributes(a *events.AccessRecord) []attribute.KeyValue {
	attributes := append(methodAttributes(a.Method), semconv.URLScheme("http"), text(semconv.URLPathKey, a.Path))
	attributes = appendAddress(attributes, semconv.ServerAddressKey, semconv.ServerPortKey, a.Host)
	attributes = appendAddress(attributes, semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey, a.Client)
	attributes = appendAddress(attributes, semconv.ClientAddressKey, "", a.Client)
	attributes = appendVersion(attributes, a.Protocol)
	if a.UserAgent != "" {
		attributes = append(attributes, text(semconv.UserAgentOriginalKey, a.UserAgent))
	}
	return attributes
}

// responseAttributes returns the attributes of a client's request that are known at its end.
func responseAttributes(a *events.AccessRecord) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, 16)
	if a.Status > 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(a.Status))
	}
	if a.RequestBytes > 0 {
		attributes = append(attributes, semconv.HTTPRequestBodySize(int(a.RequestBytes)))
	}
	if a.ResponseBytes > 0 {
		attributes = append(attributes, semconv.HTTPResponseBodySize(int(a.ResponseBytes)))
	}
	if a.Truncated {
		attributes = append(attributes, cutKey.Bool(true))
	}
	if a.Service == "" {
		return attributes
	}
	attributes = append(attributes, semconv.HTTPRoute(a.Prefix), serviceKey.String(a.Service), stateKey.String(a.State.String()),
		outcomeKey.String(string(a.Result)), attemptsKey.Int(a.Attempts))
	if a.Failure != nil {
		attributes = append(attributes, failureKey.String(string(a.Failure.Type)))
	}
	if a.GRPCStatus != "" {
		attributes = append(attributes, semconv.RPCSystemNameGRPC, semconv.RPCResponseStatusCode(a.GRPCStatus))
	}
	if a.Result == events.ResultRejected {
		attributes = append(attributes, reasonKey.String(string(a.Reason)))
	}
	if a.Strategy != "" {
		attributes = append(attributes, strategyKey.String(a.Strategy), fallbackReasonKey.String(string(a.Reason)))
	}
	if a.Shed != "" {
		attributes = append(attributes, shedKey.String(string(a.Shed)))
	}
	if a.RetryBudgetSpent {
		attributes = append(attributes, budgetSpentKey.Bool(true))
	}
	return attributes
}

// requestErrorType returns the error.type of a client's request, "" if the client got a good response, which may come from a
// fallback.
func requestErrorType(a *events.AccessRecord) string {
	switch {
	case a.Status >= 500:
		return strconv.Itoa(a.Status)
	case slices.Contains(grpcErrors, a.GRPCStatus):
		return a.GRPCStatus
	case a.Truncated && a.Failure != nil:
		return string(a.Failure.Type)
	case a.Truncated && a.Result != events.ResultCancelled:
		return "cut"
	}
	return ""
}

// grpcErrors are the status codes that are errors of the server, see
// https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
var grpcErrors = []string{"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

// attemptAttributes returns the attributes of an attempt that are known at its start, and more.
func attemptAttributes(a *events.Attempt, more ...attribute.KeyValue) []attribute.KeyValue {
	attributes := append(methodAttributes(a.Method), text(semconv.URLFullKey, a.URL), semconv.URLScheme(a.Scheme),
		serviceKey.String(a.Service), stateKey.String(a.State.String()))
	attributes = appendAddress(attributes, semconv.ServerAddressKey, semconv.ServerPortKey, withPort(a.Host, a.Scheme))
	if a.Endpoint != "" {
		attributes = append(attributes, text(endpointKey, a.Endpoint))
	}
	if a.Resends > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(a.Resends))
	}
	return append(attributes, more...)
}

// withPort returns host with a port: its own, or the default port of the scheme.
func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// attemptEndAttributes returns the attributes of an attempt, which may be a hedge, that are known at its end.
func attemptEndAttributes(e *events.AttemptEnd, hedge bool) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, 8)
	switch {
	case hedge && e.HedgeWon:
		attributes = append(attributes, hedgeKey.String("won"))
	case hedge:
		attributes = append(attributes, hedgeKey.String("lost"))
	}
	if e.FaultID != "" {
		attributes = append(attributes, faultIDKey.String(e.FaultID), faultKindKey.String(string(e.FaultKind)))
	}
	if e.Status > 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(e.Status))
	}
	attributes = appendVersion(attributes, e.Protocol)
	attributes = appendAddress(attributes, semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey, e.Peer)
	return append(attributes, outcomeKey.String(string(e.Result)))
}

// attemptErrorType returns the error.type of an attempt, "" if it did not fail. By the semantic conventions a client span is an
// error from status 400 on, even if the breaker counts the attempt as a success.
func attemptErrorType(e *events.AttemptEnd) string {
	switch {
	case e.Failure != nil && e.Failure.Type != events.ErrorStatus:
		return string(e.Failure.Type)
	case e.Status >= 400:
		return strconv.Itoa(e.Status)
	}
	return ""
}

func failureDetail(f *events.Failure) string {
	if f == nil {
		return ""
	}
	return sanitize.Line(f.Detail, maxText)
}

// appendAddress appends the host of an address, and its port if it has one and the key port is not "".
func appendAddress(attributes []attribute.KeyValue, host, port attribute.Key, address string) []attribute.KeyValue {
	name, number, err := net.SplitHostPort(address)
	if err != nil {
		name, number = strings.Trim(address, "[]"), ""
	}
	if name != "" {
		attributes = append(attributes, text(host, name))
	}
	if n, err := strconv.ParseUint(number, 10, 16); err == nil && n > 0 && port != "" {
		attributes = append(attributes, port.Int(int(n)))
	}
	return attributes
}

// appendVersion appends the version of a protocol such as "HTTP/1.1" or "HTTP/2.0". The semantic conventions write the latter
// as "2".
func appendVersion(attributes []attribute.KeyValue, protocol string) []attribute.KeyValue {
	version, ok := strings.CutPrefix(protocol, "HTTP/")
	if !ok {
		return attributes
	}
	if version == "2.0" {
		version = "2"
	}
	return append(attributes, text(semconv.NetworkProtocolVersionKey, version))
}
