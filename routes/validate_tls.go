package routes

import (
	"errors"
	"fmt"
	"slices"

	"cbproxy/internal/files"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/tlsfiles"

	"gopkg.in/yaml.v3"
)

// checkTLS checks the files of all tls keys.
func (b *builder) checkTLS() {
	c := tlsChecker{builder: b, authorities: map[string]error{}, pairs: map[[2]string]error{}}
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		c.check(r.TLS, func(keys ...string) (string, bool) { return b.blame(path, n, keys...) })
	})
	a := b.config.Admin.TLS
	c.checkPair(a.CertFile, a.KeyFile, func(keys ...string) (string, bool) { return b.blameSection("admin", keys) })
	c.check(b.config.Redis.TLS, func(keys ...string) (string, bool) { return b.blameSection("redis", keys) })
}

// blameSection is a blamer for a section of the file that inherits nothing.
func (b *builder) blameSection(section string, keys []string) (string, bool) {
	return section, !slices.ContainsFunc(keys, func(key string) bool { return b.faults.Has(section + "." + key) })
}

// blamer returns the section at fault for the combination of some of its keys, as
// builder.blame does.
type blamer func(keys ...string) (section string, ok bool)

// tlsChecker reads each combination of files once, however many sections share it.
type tlsChecker struct {
	*builder
	authorities map[string]error
	pairs       map[[2]string]error // by certificate and key
}

func (c *tlsChecker) check(t TLS, blame blamer) {
	c.checkAuthorities(t.CAFile, blame)
	c.checkPair(t.CertFile, t.KeyFile, blame)
}

func (c *tlsChecker) checkAuthorities(file string, blame blamer) {
	if file == "" {
		return
	}
	err, known := c.authorities[file]
	if !known {
		_, err = tlsfiles.LoadCertPool(file)
		c.authorities[file] = err
	}
	if err == nil {
		return
	}
	if section, ok := blame("tls.ca_file"); ok {
		authorityFault(file, err, c.reporter(section))
	}
}

// reporter returns what adds faults of the keys of a section's tls.
func (c *tlsChecker) reporter(section string) func(key, message string) {
	return func(key, message string) { c.faults.Add(c.at(section+".tls."+key), "%s", message) }
}

func (c *tlsChecker) checkPair(certFile, keyFile string, blame blamer) {
	if certFile == "" && keyFile == "" {
		return
	}
	err, known := c.pairs[[2]string{certFile, keyFile}]
	if !known && certFile != "" && keyFile != "" {
		_, err = tlsfiles.LoadKeyPair(certFile, keyFile)
		c.pairs[[2]string{certFile, keyFile}] = err
	}
	if err == nil && certFile != "" && keyFile != "" {
		return
	}
	if section, ok := blame("tls.cert_file", "tls.key_file"); ok {
		pairFault(certFile, keyFile, err, c.reporter(section))
	}
}

// CheckFiles reports what is wrong with the files that t names, by key.
func (t TLS) CheckFiles(report func(key, message string)) {
	if t.CAFile != "" {
		if _, err := tlsfiles.LoadCertPool(t.CAFile); err != nil {
			authorityFault(t.CAFile, err, report)
		}
	}
	if t.CertFile == "" && t.KeyFile == "" {
		return
	}
	var err error
	if t.CertFile != "" && t.KeyFile != "" {
		if _, err = tlsfiles.LoadKeyPair(t.CertFile, t.KeyFile); err == nil {
			return
		}
	}
	pairFault(t.CertFile, t.KeyFile, err, report)
}

// authorityFault reports why a file with authorities can't be used.
func authorityFault(file string, err error, report func(key, message string)) {
	report("ca_file", fmt.Sprintf("must be a PEM file with certificates, got %q: %s", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes), err))
}

// pairFault reports that one of two files is missing, or why they can't be used.
func pairFault(certFile, keyFile string, err error, report func(key, message string)) {
	certShown, keyShown := sanitize.TruncateRunes(certFile, strictyaml.MaxValueRunes), sanitize.TruncateRunes(keyFile, strictyaml.MaxValueRunes)
	var keyFault *tlsfiles.KeyError
	switch {
	case certFile == "":
		report("cert_file", "must be given with key_file, got none")
	case keyFile == "":
		report("key_file", "must be given with cert_file, got none")
	case errors.As(err, &keyFault):
		report("key_file", fmt.Sprintf("must be a PEM file with the key of cert_file (%q), got %q: %s", certShown, keyShown, keyFault.Err))
	default:
		report("cert_file", fmt.Sprintf("must be a PEM file with a certificate, got %q: %s", certShown, err))
		if _, err := files.ReadSmall(keyFile, tlsfiles.MaxBytes); err != nil {
			report("key_file", fmt.Sprintf("must be a PEM file with a key, got %q: %s", keyShown, err))
		}
	}
}
