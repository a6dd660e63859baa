package routes

import (
	"errors"

	"gopkg.in/yaml.v3"
)

// checkTLS checks the files of the routes' tls keys.
func (b *builder) checkTLS() {
	c := tlsChecker{builder: b, authorities: map[string]error{}, pairs: map[[2]string]error{}}
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		c.checkAuthorities(path, n, r.TLS.CAFile)
		c.checkPair(path, n, r.TLS.CertFile, r.TLS.KeyFile)
	})
}

// tlsChecker reads each combination of files once, however many routes share it.
type tlsChecker struct {
	*builder
	authorities map[string]error
	pairs       map[[2]string]error // by certificate and key
}

func (c *tlsChecker) checkAuthorities(path string, n *yaml.Node, file string) {
	if file == "" {
		return
	}
	err, known := c.authorities[file]
	if !known {
		_, err = LoadAuthorities(file)
		c.authorities[file] = err
	}
	if err == nil {
		return
	}
	if section, ok := c.blame(path, n, "tls.ca_file"); ok {
		c.faults.add(c.at(section+".tls.ca_file"), "must be a PEM file with certificates, got %q: %s", shorten(file, longestShown), err)
	}
}

func (c *tlsChecker) checkPair(path string, n *yaml.Node, certFile, keyFile string) {
	if certFile == "" && keyFile == "" {
		return
	}
	err, known := c.pairs[[2]string{certFile, keyFile}]
	if !known && certFile != "" && keyFile != "" {
		_, err = LoadKeyPair(certFile, keyFile)
		c.pairs[[2]string{certFile, keyFile}] = err
	}
	if err == nil && certFile != "" && keyFile != "" {
		return
	}
	section, ok := c.blame(path, n, "tls.cert_file", "tls.key_file")
	if !ok {
		return
	}
	ofCert, ofKey := c.at(section+".tls.cert_file"), c.at(section+".tls.key_file")
	certShown, keyShown := shorten(certFile, longestShown), shorten(keyFile, longestShown)
	var keyFault *KeyFileError
	switch {
	case certFile == "":
		c.faults.add(ofCert, "must be given with key_file, got none")
	case keyFile == "":
		c.faults.add(ofKey, "must be given with cert_file, got none")
	case errors.As(err, &keyFault):
		c.faults.add(ofKey, "must be a PEM file with the key of cert_file (%q), got %q: %s", certShown, keyShown, keyFault.Err)
	default:
		c.faults.add(ofCert, "must be a PEM file with a certificate, got %q: %s", certShown, err)
		if _, err := readSmall(keyFile, maxPEMBytes); err != nil {
			c.faults.add(ofKey, "must be a PEM file with a key, got %q: %s", keyShown, err)
		}
	}
}
