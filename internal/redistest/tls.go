package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
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
	ca := newAuthority(t)
	s := &TLSServer{CAFile: filepath.Join(folder, "ca.pem")}
	writePEM(t, s.CAFile, "CERTIFICATE", ca.certificate.Raw)
	s.CertFile, s.KeyFile = ca.issue(t, folder, "client", x509.ExtKeyUsageClientAuth)
	cert, key := ca.issue(t, folder, "server", x509.ExtKeyUsageServerAuth)
	s.Server = launch(t, secured, append([]string{
		"--save", "", "--appendonly", "no", "--port", "0", "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", s.CAFile, "--tls-cert-file", cert, "--tls-key-file", key,
	}, args...))
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.security = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	s.security.RootCAs.AddCert(ca.certificate)
	return s
}

// TLSConfig returns a copy of what a client needs to be let in.
func (s *TLSServer) TLSConfig() *tls.Config { return s.security.Clone() }

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	template := newTemplate("redistest authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	key := newKey(t)
	return &authority{certificate: sign(t, template, template, key, key), key: key}
}

// issue writes a certificate and its key to the folder.
func (a *authority) issue(t testing.TB, folder, name string, use x509.ExtKeyUsage) (certFile, keyFile string) {
	t.Helper()
	template := newTemplate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{use}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	key := newKey(t)
	certificate := sign(t, template, a.certificate, key, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(folder, name+".pem"), filepath.Join(folder, name+"-key.pem")
	writePEM(t, certFile, "CERTIFICATE", certificate.Raw)
	writePEM(t, keyFile, "PRIVATE KEY", der)
	return certFile, keyFile
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newTemplate is valid since an hour ago, as clocks differ.
func newTemplate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
