package routes_test

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/certtest"
	"cbproxy/routes"
)

// keyPair writes a certificate and its key to name.crt and name.key in folder.
func keyPair(t *testing.T, folder, name string) {
	t.Helper()
	certificate, key := certtest.NewAuthority(t).Sign(t, name)
	write(t, filepath.Join(folder, name+".crt"), certificate)
	write(t, filepath.Join(folder, name+".key"), key)
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFileFaults(t *testing.T) {
	folder := t.TempDir()
	keyPair(t, folder, "a")
	keyPair(t, folder, "b")
	a := read(t, filepath.Join(folder, "a.crt"))
	write(t, filepath.Join(folder, "cut.crt"), a[:len(a)/2])
	write(t, filepath.Join(folder, "empty"), nil)
	write(t, filepath.Join(folder, "no_certificate.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	write(t, filepath.Join(folder, "large"), make([]byte, 5<<20))
	for keys, want := range map[string]string{
		"ca_file: a.crt, cert_file: a.crt, key_file: a.key": "",
		"cert_file: a.crt, key_file: b.key":                 "key_file: must be a PEM file with the key of cert_file (\"F/a.crt\"), got \"F/b.key\": private key does not match public key",
		"cert_file: a.crt, key_file: a.crt":                 "key_file: must be a PEM file with the key of cert_file (\"F/a.crt\"), got \"F/a.crt\": found a certificate rather than a key in the PEM for the private key",
		"cert_file: a.crt, key_file: empty":                 "key_file: must be a PEM file with the key of cert_file (\"F/a.crt\"), got \"F/empty\": failed to find any PEM data in key input",
		"cert_file: a.key, key_file: a.key":                 "cert_file: must be a PEM file with a certificate, got \"F/a.key\": no PEM block is a certificate",
		"cert_file: cut.crt, key_file: a.key":               "cert_file: must be a PEM file with a certificate, got \"F/cut.crt\": no PEM block is a certificate",
		"cert_file: no_certificate.crt, key_file: a.key":    "cert_file: must be a PEM file with a certificate, got \"F/no_certificate.crt\": x509: malformed certificate",
		"ca_file: a.key":                                    "ca_file: must be a PEM file with certificates, got \"F/a.key\": no PEM block is a certificate",
		"ca_file: no_certificate.crt":                       "ca_file: must be a PEM file with certificates, got \"F/no_certificate.crt\": no PEM block is a certificate",
		"ca_file: large":                                    "ca_file: must be a PEM file with certificates, got \"F/large\": larger than 4096 KiB",
	} {
		content := "routes: {rag_service: {upstream: https://rag, tls: {" + strings.ReplaceAll(keys, "file: ", "file: F/") + "}}}"
		_, err := loader().Parse([]byte(strings.ReplaceAll(content, "F/", folder+"/")))
		var faults routes.Faults
		switch {
		case want == "" && err == nil:
		case !errors.As(err, &faults) || len(faults) != 1:
			t.Errorf("%s: got %v, want one fault", keys, err)
		case faults[0].Path+": "+faults[0].Message != "routes.rag_service.tls."+strings.ReplaceAll(want, "F/", folder+"/"):
			t.Errorf("%s: got\n%v\nwant\n%s", keys, err, want)
		}
	}
}

func TestRoutesInheritTLSKeys(t *testing.T) {
	folder := t.TempDir()
	keyPair(t, folder, "a")
	keyPair(t, folder, "b")
	content := strings.ReplaceAll(`
defaults: {tls: {cert_file: F/a.crt, key_file: F/a.key}}
routes:
  rag_service: {upstream: https://rag}
  other: {prefix: /other, upstream: https://other, tls: {cert_file: F/b.crt, key_file: F/b.key}}
  none: {prefix: /none, upstream: https://none, tls: {cert_file: "", key_file: ""}}
`, "F/", folder+"/")
	c := parse(t, content)
	for name, want := range map[string]string{"rag_service": folder + "/a.key", "other": folder + "/b.key", "none": ""} {
		if got := c.Routes[name].TLS.KeyFile; got != want {
			t.Errorf("%s: got key_file %q, want %q", name, got, want)
		}
	}
	_, err := loader().Parse([]byte(content + "  half: {prefix: /half, upstream: https://half, tls: {cert_file: " + folder + "/b.crt}}\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "config.yaml:7:") || !strings.Contains(err.Error(), ": routes.half.tls.key_file: ") {
		t.Errorf("got %v, want a fault of the route", err)
	}
}
