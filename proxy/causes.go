package proxy

import (
	"errors"

	"cbproxy/internal/upstream"
)

// The causes with which an exchange's context ends, unless the client's context ends first.
var (
	errTimeout       = errors.New("the route's timeout passed")
	errDeadline      = errors.New("the call's grpc-timeout passed")
	errShortDeadline = errors.New("the call's grpc-timeout was too short for any upstream")
	errIdle          = errors.New("the stream was silent for the route's idle_timeout")
	errSlowClient    = errors.New("the client did not send or take a body in time")
	errStalled       = errors.New("the upstream ended the connection while the client was slow to send its body")
	errReplayed      = upstream.ErrReplayed
	errUnprocessed   = errors.New("the upstream has refused each stream without processing the request")
	errPaused        = errors.New("the process was stopped when the time limit passed")
	errUploadLost    = errors.New("the upstream closed the connection during the upload")
	errExchangeDone  = errors.New("the exchange is over")
)
