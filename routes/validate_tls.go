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
		c.check(r.TLS, func(keys ...string) (string, bool) { return b.source(path, n, keys...) })
	})
	a := b.config.Admin.TLS
	c.checkPair(a.CertFile, a.KeyFile, func(keys ...string) (string, bool) { return b.fixedSource("admin", keys) })
	c.check(b.config.Redis.TLS, func(keys ...string) (string, bool) { return b.fixedSource("redis", keys) })
}

// fixedSource is a sourceFunc for a section that inherits nothing.
func (b *builder) fixedSource(section string, keys []string) (string, bool) {
	return section, !slices.ContainsFunc(keys, func(key string) bool { return b.faults.Has(section + "." + key) })
}

// sourceFunc returns the section that sets the combination of some keys, as builder.source does.
type sourceFunc func(keys ...string) (section string, ok bool)

// tlsChecker reads each combination of files once, however many sections share it.
type tlsChecker struct {
	*builder
	authorities map[string]error
	pairs       map[[2]string]error // by certificate and key
}

func (c *tlsChecker) check(t TLS, source sourceFunc) {
	c.checkAuthorities(t.CAFile, source)
	c.checkPair(t.CertFile, t.KeyFile, source)
}

func (c *tlsChecker) checkAuthorities(file string, source sourceFunc) {
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
	if section, ok := source("tls.ca_file"); ok {
		authorityFault(file, err, c.reporter(section))
	}
}

// reporter returns a function that adds faults of the keys in a section's tls.
func (c *tlsChecker) reporter(section string) func(key, message string) {
	return func(key, message string) { c.faults.Add(c.at(section+".tls."+key), "%s", message) }
}

func (c *tlsChecker) checkPair(certFile, keyFile string, source sourceFunc) {
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
	if section, ok := source("tls.cert_file", "tls.key_file"); ok {
		pairFault(certFile, keyFile, err, c.reporter(section))
	}
}

// CheckFiles calls report for each key of t whose file cannot be used.
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

// authorityFault reports why a file with authorities cannot be used.
func authorityFault(file string, err error, report func(key, message string)) {
	report("ca_file", fmt.Sprintf("must be a PEM file with certificates, got %q: %s", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes), err))
}

// pairFault reports that one of two files is missing, or why they cannot be used.
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
