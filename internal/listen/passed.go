package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// The names of sockets that Passed knows.
const (
	Proxy = "listen"
	Admin = "admin"
)

// Sockets are the sockets that a service manager has passed to the process.
type Sockets struct {
	// Proxy and Admin replace the configured addresses of the proxy and of the admin API. Empty: no socket was passed.
	Proxy, Admin []*Listener
	// Unnamed is the name of the only socket in Proxy, if that has another name than Proxy; "" if there is none.
	Unnamed string
}

// Passed returns the sockets in LISTEN_FDS (sd_listen_fds(3)), which the variables LISTEN_PID and LISTEN_FDNAMES describe, and
// unsets these variables, so that child processes do not inherit them. The descriptors are closed in child processes. A socket
// must be named Proxy or Admin, with one exception: the only socket that has neither name is used as Proxy, if there is none of
// that name. An error names the socket that can't be used. Passed is called once, before the process opens other descriptors.
func Passed() (s Sockets, err error) {
	var other []string
	for _, f := range activation.Files(true) {
		l, err := listenerOf(f)
		if err != nil {
			return s, err
		}
		switch f.Name() {
		case Proxy:
			s.Proxy = append(s.Proxy, l)
		case Admin:
			s.Admin = append(s.Admin, l)
		default:
			if other = append(other, f.Name()); len(other) == 1 {
				s.Unnamed, s.Proxy = f.Name(), append(s.Proxy, l)
			}
		}
	}
	if len(other) > 1 || len(other) > 0 && len(s.Proxy) > 1 {
		return s, fmt.Errorf("LISTEN_FDS has sockets of unknown names (%s): set FileDescriptorName=%s or %s in their socket units",
			strings.Join(slices.Compact(other), ", "), Proxy, Admin)
	}
	return s, nil
}

// listenerOf returns the listener of a descriptor, which it closes.
func listenerOf(f *os.File) (*Listener, error) {
	defer func() { _ = f.Close() }() // the listener has a duplicate
	err := checkListening(f)
	var l net.Listener
	if err == nil {
		l, err = net.FileListener(f)
	}
	if err != nil {
		return nil, fmt.Errorf("use the socket %s of LISTEN_FDS: %w", f.Name(), err)
	}
	return &Listener{Listener: l, Shared: true}, nil
}

// checkListening returns an error unless f is a socket that listens.
func checkListening(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	listens := 0
	controlErr := raw.Control(func(fd uintptr) {
		listens, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN) // #nosec G115 -- a descriptor
	})
	switch {
	case controlErr != nil:
		return controlErr
	case err != nil:
		return err
	case listens == 0:
		return errors.New("it does not listen: the socket unit needs ListenStream= and Accept=no")
	}
	return nil
}
