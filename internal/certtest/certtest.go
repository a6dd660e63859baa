// Package certtest creates certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority. Its certificates are valid from an hour ago, to tolerate clock differences, for
// a day.
type Authority struct {
	// PEM is the certificate of the authority.
	PEM []byte

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority returns an authority with a new key.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t)}
	template := newTemplate("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := a.create(t, template, template, a.key)
	var err error
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.PEM = encode("CERTIFICATE", der)
	return a
}

// Pool returns a pool that contains only the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Sign returns a certificate for servers and clients with the common name name, and its key, both as PEM. hosts are its
// host names and IP addresses; the default is name.
func (a *Authority) Sign(t testing.TB, name string, hosts ...string) (certificate, key []byte) {
	t.Helper()
	template, private := newTemplate(name), newKey(t)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if len(hosts) == 0 {
		hosts = []string{name}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der := a.create(t, template, a.certificate, private)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}

// WriteSigned writes the results of Sign to NAME.pem and NAME-key.pem in folder, replacing existing files.
func (a *Authority) WriteSigned(t testing.TB, folder, name string, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	certificate, key := a.Sign(t, name, hosts...)
	return Write(t, folder, name+".pem", certificate), Write(t, folder, name+"-key.pem", key)
}

// Write writes a file with mode 0600 and returns its path.
func Write(t testing.TB, folder, name string, content []byte) (file string) {
	t.Helper()
	file = filepath.Join(folder, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// create returns a certificate for key, signed by the authority.
func (a *Authority) create(t testing.TB, template, parent *x509.Certificate, key *ecdsa.PrivateKey) (der []byte) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// newTemplate returns the fields that all certificates have in common. CreateCertificate adds a random serial number.
func newTemplate(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
