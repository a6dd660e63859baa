package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"

	"cbproxy/internal/certtest"
)

func commonName(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	if c == nil || c.Leaf == nil {
		t.Fatal("no certificate")
	}
	return c.Leaf.Subject.CommonName
}

func TestReloaderReloadsChangedCertificates(t *testing.T) {
	authority, folder := certtest.NewAuthority(t), t.TempDir()
	write := func(name string) {
		certificate, key := authority.Sign(t, name)
		certtest.Write(t, folder, "tls.crt", certificate)
		certtest.Write(t, folder, "tls.key", key)
	}
	write("first")
	var log bytes.Buffer
	r, err := New(Config{CertFile: folder + "/tls.crt", KeyFile: folder + "/tls.key"}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	client, server := r.Client(), r.Server()
	check := func(want string) {
		t.Helper()
		ofClient, err := client.GetClientCertificate(nil)
		if got := commonName(t, ofClient); err != nil || got != want {
			t.Errorf("client: got %s, %v, want %s", got, err, want)
		}
		ofServer, err := server.GetCertificate(nil)
		if got := commonName(t, ofServer); err != nil || got != want {
			t.Errorf("server: got %s, %v, want %s", got, err, want)
		}
	}
	check("first")
	write("second")
	check("second")
	certtest.Write(t, folder, "tls.key", []byte("invalid"))
	check("second")
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "load tls.key_file "+folder+"/tls.key: ") {
		t.Errorf("logged\n%s\nwant one warning that names the key file", got)
	}
}

func TestNewNamesTheFileInError(t *testing.T) {
	folder := t.TempDir()
	if _, err := New(Config{CAFile: folder + "/ca.pem"}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "load tls.ca_file "+folder+"/ca.pem: ") {
		t.Errorf("got %v, want an error with the key and the file", err)
	}
}
