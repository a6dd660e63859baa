package redistest

import (
	"crypto/tls"
	"testing"

	"cbproxy/internal/certtest"
)

// TLSServer is a server that accepts only TLS connections with a client certificate of its authority. Its own certificate is for localhost
// and 127.0.0.1.
type TLSServer struct {
	*Server
	// CAFile is the PEM file with the authority's certificate.
	CAFile string
	// CertFile and KeyFile are the PEM files with a client's certificate and its key.
	CertFile, KeyFile string
}

// StartTLS starts a server that accepts only TLS and requires a client certificate.
func StartTLS(t testing.TB, args ...string) *TLSServer {
	t.Helper()
	Need(t)
	folder := t.TempDir()
	ca := certtest.NewAuthority(t)
	s := &TLSServer{CAFile: certtest.Write(t, folder, "ca.pem", ca.PEM)}
	s.CertFile, s.KeyFile = ca.WriteSigned(t, folder, "client")
	cert, key := ca.WriteSigned(t, folder, "server", "localhost", "127.0.0.1")
	s.Server = startServer(t, withTLS, append([]string{
		"--save", "", "--appendonly", "no", "--port", "0", "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", s.CAFile, "--tls-cert-file", cert, "--tls-key-file", key,
	}, args...))
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}
	return s
}

// TLSConfig returns a copy of a configuration for clients, with a client certificate.
func (s *TLSServer) TLSConfig() *tls.Config { return s.tlsConfig.Clone() }
