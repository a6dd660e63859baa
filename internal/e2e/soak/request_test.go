package soak

import "fmt"

// request is a request of the soak test and its result. Only the client that sends it uses it until the load has ended.
type request struct {
	id             uint64
	route          *route
	instance       int // index of the instance that receives it
	method         string
	target         string // as received by the upstream
	tenant         string // the Authorization field
	bodySum        uint32 // CRC-32 of the body
	idempotencyKey string
	responseLines  int    // number of lines of the upstream's response
	mayTruncate    bool   // the response is streamed before it is complete, so that it may be truncated
	invalid        bool   // the request is malformed or incomplete
	sequence       string // the client that sends its requests one after another, if the order of their delivery is checked

	disconnected bool // the client disconnected before the end of the response
	instanceDown bool // the instance was down at some time during the request
	status       int  // of the response; 0: there was none
	strategy     string
	reason       string
	truncated    bool // the response was incomplete
}

func (req *request) String() string {
	return fmt.Sprintf("#%d %s %s of %s at instance %d", req.id, req.method, req.target, req.route.service, req.instance)
}

// resultKnown reports whether the client knows how the proxy handled the request.
func (req *request) resultKnown() bool { return !req.disconnected && !req.instanceDown }
