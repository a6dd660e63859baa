package message

import "net/http"

// HeaderSize returns the size in bytes of the request line and the header section in HTTP/1.1.
func HeaderSize(r *http.Request) int {
	return len(r.Method) + len(r.RequestURI) + len(" HTTP/1.1\r\n ") + len("Host: \r\n") + len(r.Host) + FieldsSize(r.Header)
}

// FieldsSize returns the size in bytes of the fields of h in HTTP/1.1.
func FieldsSize(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	return n
}
