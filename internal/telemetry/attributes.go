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

// The attributes that no convention has.
const (
	serviceKey        = attribute.Key("cbproxy.service")
	stateKey          = attribute.Key("cbproxy.breaker.state")
	decisionKey       = attribute.Key("cbproxy.decision") // admitted or rejected
	reasonKey         = attribute.Key("cbproxy.reason")   // of a rejection, in the words of X-Fallback-Reason
	outcomeKey        = attribute.Key("cbproxy.outcome")  // in the words of the requests metric
	attemptsKey       = attribute.Key("cbproxy.attempts")
	failureKey        = attribute.Key("cbproxy.failure") // the last attempt's, in the words of the failures metric
	strategyKey       = attribute.Key("cbproxy.fallback.strategy")
	fallbackReasonKey = attribute.Key("cbproxy.fallback.reason")
	shedKey           = attribute.Key("cbproxy.shed") // the limit that turned the request away
	budgetSpentKey    = attribute.Key("cbproxy.retry_budget_spent")
	waitKey           = attribute.Key("cbproxy.retry.wait") // in seconds
	cutKey            = attribute.Key("cbproxy.cut")
	deliveryKey       = attribute.Key("cbproxy.delivery") // of what was queued
)

// maxText is how many bytes of a text of others' an attribute holds, so that what waits for
// an exporter is bounded. A single one that is no UTF-8 would lose a whole batch.
const maxText = 1 << 10

func text(key attribute.Key, s string) attribute.KeyValue {
	return key.String(sanitize.Line(s, maxText))
}

// other is what a method is called that is none of HTTP's own: anybody can make up any number
// of them.
const other = "_OTHER"

func methodOf(method string) string {
	switch method {
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodTrace:
		return method
	}
	return other
}

// methodName is a method as it stands in a span's name.
func methodName(method string) string {
	if name := methodOf(method); name != other {
		return name
	}
	return "HTTP"
}

func methodAttributes(method string) []attribute.KeyValue {
	if known := methodOf(method); known != other {
		return []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(known)}
	}
	return []attribute.KeyValue{semconv.HTTPRequestMethodOther, text(semconv.HTTPRequestMethodOriginalKey, method)}
}

// requestAttributes are those of a client's request that are known at its start. Query strings
// may hold secrets and are left out.
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

// responseAttributes are those that are known at a client's request's end.
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

// errorOf is what made a client's request a failure for the client, "" if it was none: one that
// a fallback answered well is none.
func errorOf(a *events.AccessRecord) string {
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

// grpcErrors are the codes that are a server's fault, see
// https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
var grpcErrors = []string{"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

// attemptAttributes are those of a request to an upstream that are known at its start.
func attemptAttributes(a *events.Attempt, more ...attribute.KeyValue) []attribute.KeyValue {
	attributes := append(methodAttributes(a.Method), text(semconv.URLFullKey, a.URL), semconv.URLScheme(a.Scheme),
		serviceKey.String(a.Service), stateKey.String(a.State.String()))
	attributes = appendAddress(attributes, semconv.ServerAddressKey, semconv.ServerPortKey, withPort(a.Host, a.Scheme))
	if a.Resends > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(a.Resends))
	}
	return append(attributes, more...)
}

// withPort returns an upstream's host with the port that its scheme implies, if it names none.
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

// answerAttributes are those that are known at its end.
func answerAttributes(e *events.AttemptEnd) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, 8)
	if e.Status > 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(e.Status))
	}
	attributes = appendVersion(attributes, e.Protocol)
	attributes = appendAddress(attributes, semconv.NetworkPeerAddressKey, semconv.NetworkPeerPortKey, e.Peer)
	return append(attributes, outcomeKey.String(string(e.Result)))
}

// attemptError is the class of an attempt's failure, "" if it did not fail: a client's span
// is an error from status 400 on, whatever the breaker makes of it.
func attemptError(e *events.AttemptEnd) string {
	switch {
	case e.Failure != nil && e.Failure.Type != events.ErrorStatus:
		return string(e.Failure.Type)
	case e.Status >= 400:
		return strconv.Itoa(e.Status)
	}
	return ""
}

func detailOf(f *events.Failure) string {
	if f == nil {
		return ""
	}
	return sanitize.Line(f.Detail, maxText)
}

// appendAddress adds a host and its port, where there is one and key has a place for it.
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

// appendVersion adds the version of a protocol such as "HTTP/1.1" or "HTTP/2.0", of which
// the convention says "2".
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
