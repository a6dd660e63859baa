package redistest

import (
	"crypto/tls"
	"testing"

	"cbproxy/internal/certtest"
)

// TLSServer is a server that speaks only TLS, and only with who has a certificate of its
// authority. Its own certificate is for localhost and 127.0.0.1.
type TLSServer struct {
	*Server
	// CAFile is the PEM file with the authority's certificate.
	CAFile string
	// CertFile and KeyFile are the PEM files with a client's certificate and its key.
	CertFile, KeyFile string
}

// StartTLS starts a server that speaks only TLS, and demands a certificate of its clients.
func StartTLS(t testing.TB, args ...string) *TLSServer {
	t.Helper()
	Need(t)
	folder := t.TempDir()
	ca := certtest.NewAuthority(t)
	s := &TLSServer{CAFile: certtest.Write(t, folder, "ca.pem", ca.PEM)}
	s.CertFile, s.KeyFile = ca.WriteSigned(t, folder, "client")
	cert, key := ca.WriteSigned(t, folder, "server", "localhost", "127.0.0.1")
	s.Server = launch(t, secured, append([]string{
		"--save", "", "--appendonly", "no", "--port", "0", "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", s.CAFile, "--tls-cert-file", cert, "--tls-key-file", key,
	}, args...))
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.security = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}
	return s
}

// TLSConfig returns a copy of what a client needs to be let in.
func (s *TLSServer) TLSConfig() *tls.Config { return s.security.Clone() }
