package healthcheck

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"cbproxy/internal/events"
)

func TestEvaluateMessage(t *testing.T) {
	ok := http.Header{"Grpc-Status": {"0"}}
	serving := "\x00\x00\x00\x00\x02\x08\x01"
	for _, test := range []struct {
		name            string
		header, trailer http.Header
		body            string
		failure         events.ErrorType // "": healthy
		detail          string
	}{
		{name: "serving", trailer: ok, body: serving},
		{name: "serving, with a field that is not known", trailer: ok, body: "\x00\x00\x00\x00\x06\x08\x01\x52\x02ab"},
		{name: "the last value counts", trailer: ok, body: "\x00\x00\x00\x00\x04\x08\x02\x08\x01"},
		{"not serving", nil, ok, "\x00\x00\x00\x00\x02\x08\x02", events.ErrorGRPC, "NOT_SERVING"},
		{"service unknown", nil, ok, "\x00\x00\x00\x00\x02\x08\x03", events.ErrorGRPC, "SERVICE_UNKNOWN"},
		{"unknown", nil, ok, "\x00\x00\x00\x00\x00", events.ErrorGRPC, "UNKNOWN"},
		{"a status of a later version", nil, ok, "\x00\x00\x00\x00\x02\x08\x09", events.ErrorGRPC, "9"},
		{"no health service", http.Header{"Grpc-Status": {"12"}, "Grpc-Message": {"unknown service"}}, nil, "", events.ErrorGRPC, "gRPC status UNIMPLEMENTED: the server has no health service (grpc.health.v1.Health)"},
		{"a status of gRPC", nil, http.Header{"Grpc-Status": {"14"}, "Grpc-Message": {"50%25"}}, "", events.ErrorGRPC, "gRPC status UNAVAILABLE: 50%"},
		{"a status behind a message", nil, http.Header{"Grpc-Status": {"13"}}, serving, events.ErrorGRPC, "gRPC status INTERNAL"},
		{"a malformed status", nil, http.Header{"Grpc-Status": {"OK"}}, serving, events.ErrorGRPC, "gRPC status UNKNOWN: malformed grpc-status"},
		{"no trailers", nil, nil, serving, events.ErrorProtocol, "the response has no grpc-status"},
		{"a status before a message", ok, nil, serving, events.ErrorProtocol, "the response has no grpc-status"},
		{"no message", ok, nil, "", events.ErrorProtocol, "malformed response: no message"},
		{"half a prefix", nil, ok, "\x00\x00", events.ErrorProtocol, "malformed response: no message"},
		{"compressed", nil, ok, "\x01\x00\x00\x00\x02\x08\x01", events.ErrorProtocol, "malformed response: the message is compressed"},
		{"truncated", nil, ok, "\x00\x00\x00\x00\x02\x08", events.ErrorProtocol, "malformed response: the message does not have the length of its prefix"},
		{"two messages", nil, ok, serving + serving, events.ErrorProtocol, "malformed response: the message does not have the length of its prefix"},
		{"not a message", nil, ok, "\x00\x00\x00\x00\x02\x08\xff", events.ErrorProtocol, "malformed response: proto:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := evaluateMessage(test.header, test.trailer, []byte(test.body))
			switch {
			case err == nil && test.failure != "":
				t.Errorf("healthy, want %s: %s", test.failure, test.detail)
			case err != nil && (err.Failure != test.failure || !strings.HasPrefix(err.Error(), test.detail)):
				t.Errorf("%s: %v, want %q: %s", err.Failure, err, test.failure, test.detail)
			}
		})
	}
}

func FuzzEvaluateMessage(f *testing.F) {
	f.Add("0", "", []byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Add("0", "", []byte("\x00\x00\x00\x00\x06\x08\x01\x52\x02ab"))
	f.Add("0", "", []byte("\x00\xff\xff\xff\xff\x08\x01"))
	f.Add("12", "%zz", []byte{})
	f.Fuzz(func(t *testing.T, status, text string, body []byte) {
		trailer := http.Header{"Grpc-Status": {status}, "Grpc-Message": {text}}
		err := evaluateMessage(nil, trailer, body)
		if err != nil {
			if err.Failure == "" || err.Err == nil || err.Error() == "" {
				t.Errorf("%q, %q, %q: an error that says nothing: %#v", status, text, body, err)
			}
			return
		}
		// What is taken for healthy is a message with the status SERVING, also behind the prefix that another encoder writes.
		var m grpc_health_v1.HealthCheckResponse
		if proto.Unmarshal(body[prefixSize:], &m) != nil || m.Status != grpc_health_v1.HealthCheckResponse_SERVING || strings.Trim(status, "0") != "" {
			t.Fatalf("status %q, body %q is taken for healthy", status, body)
		}
		want := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)-prefixSize)), body[prefixSize:]...)
		if !bytes.Equal(body, want) {
			t.Errorf("the prefix of %q is accepted", body)
		}
	})
}
