package routes

import (
	"net"
	"net/netip"
	"strings"
)

// checkAddress returns what a listen address must be, "" if it is valid.
func checkAddress(text string) (want string) {
	const form = "must be host:port such as 127.0.0.1:8080, or unix:///path"
	if path, ok := strings.CutPrefix(text, "unix://"); ok {
		if !strings.HasPrefix(path, "/") || path == "/" || strings.ContainsFunc(path, isControl) {
			return form
		}
		return ""
	}
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil || strings.ContainsAny(host, "/ ") || strings.ContainsFunc(host, isControl):
		return form
	case !isPort(port, 0):
		return "must have a port from 0 to 65535"
	case strings.Contains(host, ":") && !isIP(host):
		return form
	}
	return ""
}

// sameListener reports whether two valid listen addresses conflict.
func sameListener(a, b string) bool {
	if strings.HasPrefix(a, "unix://") || strings.HasPrefix(b, "unix://") {
		return a == b
	}
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && (hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA))
}

// covers reports whether a listener on host also listens on other.
func covers(host, other string) bool {
	switch host {
	case "", "::":
		return true
	case "0.0.0.0":
		return other == "localhost" || isIP(other) && !strings.Contains(other, ":")
	}
	return false
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
