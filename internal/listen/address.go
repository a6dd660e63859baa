package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Address is a listen address. Addresses are comparable.
type Address struct {
	// Network is tcp or unix.
	Network string
	// Target is host:port, or the absolute path of a Unix socket.
	Target string
	// Mode is the permissions of a Unix socket's file, NoMode if they follow from the umask.
	Mode fs.FileMode
	// GID is the group of a Unix socket's file, or -1 for that of the process.
	GID int
}

// NoMode is the Mode of an address without one.
const NoMode = fs.ModeIrregular

const (
	wantAddress    = "must be host:port such as 127.0.0.1:8080, or unix:///path"
	wantParameters = "must have no other parameters than mode and group, each once"
	wantMode       = "must have a mode of three or four octal digits such as mode=0660"
)

// maxPath is the number of bytes of the longest path of a Unix socket.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Parse returns the address in a text of the form host:port or unix:///path?mode=0666&group=NAME. The group is the name or the
// number of a group of this machine. The path is not decoded, and ends at the first question mark. An error says what the text
// must be.
func Parse(text string) (Address, error) {
	a := Address{Network: "tcp", Target: text, Mode: NoMode, GID: -1}
	rest, ok := strings.CutPrefix(text, "unix://")
	if !ok {
		return a, checkHostPort(text)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	switch {
	case !strings.HasPrefix(path, "/") || path == "/" || strings.ContainsFunc(text, isControl):
		return a, errors.New(wantAddress)
	case len(path) > maxPath:
		return a, fmt.Errorf("must have a path of at most %d bytes", maxPath)
	}
	a.Network, a.Target = "unix", path
	if !hasQuery {
		return a, nil
	}
	return a, a.parseParameters(query)
}

// parseParameters sets the mode and the group.
func (a *Address) parseParameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil || len(values) == 0 {
		return errors.New(wantParameters)
	}
	for name, value := range values {
		if name != "mode" && name != "group" || len(value) > 1 {
			return errors.New(wantParameters)
		}
	}
	if values.Has("mode") {
		mode := values.Get("mode")
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || len(mode) < 3 || len(mode) > 4 || bits > 0o777 {
			return errors.New(wantMode)
		}
		a.Mode = fs.FileMode(bits)
	}
	if values.Has("group") {
		a.GID, err = groupID(values.Get("group"))
	}
	return err
}

// groupID returns the number of a group.
func groupID(group string) (int, error) {
	id, err := strconv.ParseUint(group, 10, 31)
	if err == nil {
		return int(id), nil // #nosec G115 -- at most 31 bits
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, errors.New("must have a group of this machine, by name or number")
	}
	if id, err = strconv.ParseUint(g.Gid, 10, 31); err != nil {
		return -1, fmt.Errorf("must have a group with a number, group %s has %q", group, g.Gid)
	}
	return int(id), nil // #nosec G115 -- at most 31 bits
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, "/ ") || strings.ContainsFunc(host, isControl) || strings.Contains(host, ":") && !isIP(host) {
		return errors.New(wantAddress)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 || strconv.Itoa(n) != port {
		return errors.New("must have a port from 0 to 65535")
	}
	return nil
}

// isControl reports whether r is a C0 or C1 control character or the replacement character.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' }

// String returns the address without mode and group.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix://" + a.Target
	}
	return a.Target
}

// HasRandomPort reports whether the system chooses a port when the address is opened.
func (a Address) HasRandomPort() bool { return a.Network == "tcp" && strings.HasSuffix(a.Target, ":0") }

// Conflicts reports whether a and b can't be open at the same time. Names of hosts are not resolved.
func (a Address) Conflicts(b Address) bool {
	if a.Network != b.Network || a.HasRandomPort() {
		return false
	}
	if a.Network == "unix" {
		return a.Target == b.Target
	}
	hostA, portA, _ := net.SplitHostPort(a.Target)
	hostB, portB, _ := net.SplitHostPort(b.Target)
	return portA == portB && (hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA))
}

// covers reports whether a listener on host also listens on other.
func covers(host, other string) bool {
	switch host {
	case "", "::":
		return true
	case "0.0.0.0":
		return other == "localhost" || isIP(other) && !strings.Contains(other, ":")
	case "localhost":
		return other == "127.0.0.1"
	}
	return false
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
