package app

import (
	"crypto/tls"
	"fmt"

	"cbproxy/routes"
)

// redisTLS returns how connections to Redis are secured. The client certificate is read for
// each connection, so that it can be rotated.
func redisTLS(keys routes.TLS) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         keys.ServerName,
		InsecureSkipVerify: keys.InsecureSkipVerify, // #nosec G402 -- only if the operator says so
	}
	if keys.CAFile != "" {
		pool, err := routes.LoadAuthorities(keys.CAFile)
		if err != nil {
			return nil, fmt.Errorf("load redis.tls.ca_file %q: %w", keys.CAFile, err)
		}
		c.RootCAs = pool
	}
	if keys.CertFile != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := routes.LoadKeyPair(keys.CertFile, keys.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("load redis.tls.cert_file %q and key_file %q: %w", keys.CertFile, keys.KeyFile, err)
			}
			return pair, nil
		}
	}
	return c, nil
}
