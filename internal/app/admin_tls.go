package app

import (
	"crypto/tls"
	"log/slog"
	"sync/atomic"

	"cbproxy/routes"
)

// adminTLS returns how the admin port is secured, nil if it is not. The files are read for each
// connection, so that they can be rotated; while they can't be used the last good ones are.
func adminTLS(keys routes.AdminTLS, logger *slog.Logger) (*tls.Config, error) {
	if keys.CertFile == "" {
		return nil, nil
	}
	pair, err := routes.LoadKeyPair(keys.CertFile, keys.KeyFile)
	if err != nil {
		return nil, err
	}
	var last atomic.Pointer[tls.Certificate]
	last.Store(pair)
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := routes.LoadKeyPair(keys.CertFile, keys.KeyFile)
			if err != nil {
				logger.Warn("the admin port's certificate can't be read, the last good one stays in use",
					"cert_file", keys.CertFile, "key_file", keys.KeyFile, "error", err)
				return last.Load(), nil
			}
			last.Store(pair)
			return pair, nil
		},
	}, nil
}
