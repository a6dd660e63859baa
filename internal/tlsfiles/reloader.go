package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
)

// Config names the PEM files of a TLS client or server, with the settings of a client. Empty names
// are not loaded.
type Config struct {
	// CAFile holds the authorities that verify the server's certificate. If it is empty, those of the
	// system do.
	CAFile string
	// CertFile and KeyFile hold the own certificate chain and its private key.
	CertFile, KeyFile string
	// ServerName is the name for SNI and for verification of the server's certificate.
	ServerName string
	// InsecureSkipVerify accepts any certificate of the server.
	InsecureSkipVerify bool
}

// Reloader provides TLS configurations for new connections. It reloads the files when they have
// changed, so that certificates can be rotated. If the changed files cannot be loaded, the previous
// certificates stay in use. Established connections are not affected. Safe for concurrent use.
type Reloader struct {
	config Config
	logger *slog.Logger

	mu      sync.Mutex  // guards the fields below
	loaded  metadata    // of the files when they were last read, successfully or not
	current *tls.Config // never modified
}

// New loads the files of config. The error names the key and the file that cannot be loaded.
// Failed and successful reloads are logged to logger.
func New(config Config, logger *slog.Logger) (*Reloader, error) {
	r := &Reloader{config: config, logger: logger}
	var err error
	r.loaded, r.current, err = load(config)
	return r, err
}

// TLS returns the configuration of a new client connection. The caller must not modify it.
func (r *Reloader) TLS() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded.equal(readMetadata(r.config)) {
		return r.current
	}
	loaded, next, err := load(r.config)
	r.loaded = loaded
	switch {
	case err != nil:
		r.logger.Warn("cannot reload TLS files, keeping the previous certificates", "error", err)
	case !sameCertificates(r.current, next):
		r.logger.Info("TLS files reloaded, new connections use them")
		r.current = next // with a session cache of its own: a session must not outlive the certificates that verified it
	}
	return r.current
}

// Client returns a configuration for a client that uses one configuration for all its connections.
// The client certificate is reloaded for each connection, the authorities are not.
func (r *Reloader) Client() *tls.Config {
	c := r.TLS().Clone()
	c.ClientSessionCache = nil
	if r.config.CertFile != "" {
		c.Certificates = nil
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.certificate(), nil }
	}
	return c
}

// Server returns the configuration of a server, whose certificate is reloaded for each connection.
// The Config must have a CertFile.
func (r *Reloader) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.certificate(), nil },
	}
}

func (r *Reloader) certificate() *tls.Certificate { return &r.TLS().Certificates[0] }

// maxLoads bounds how often files that change during loading are loaded again.
const maxLoads = 5

// load returns the TLS configuration from the files, and the metadata of the files from before they
// were read, so that a change during the reading is noticed later.
func load(config Config) (loaded metadata, c *tls.Config, err error) {
	for range maxLoads {
		loaded = readMetadata(config)
		c, err = read(config)
		if loaded.equal(readMetadata(config)) {
			break // the files belong together: nothing changed while they were read
		}
	}
	return loaded, c, err
}

func read(config Config) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         config.ServerName,
		InsecureSkipVerify: config.InsecureSkipVerify, // #nosec G402 -- only if it is configured
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if config.CAFile != "" {
		pool, err := LoadCertPool(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("load tls.ca_file %s: %w", config.CAFile, err)
		}
		c.RootCAs = pool
	}
	if config.CertFile == "" {
		return c, nil
	}
	certificate, err := LoadKeyPair(config.CertFile, config.KeyFile)
	var keyError *KeyError
	switch {
	case errors.As(err, &keyError):
		return nil, fmt.Errorf("load tls.key_file %s: %w", config.KeyFile, keyError.Err)
	case err != nil:
		return nil, fmt.Errorf("load tls.cert_file %s: %w", config.CertFile, err)
	}
	c.Certificates = []tls.Certificate{*certificate}
	return c, nil
}

// sameCertificates reports whether a and b have the same authorities and certificates. Private keys
// need no comparison: each belongs to its certificate.
func sameCertificates(a, b *tls.Config) bool {
	return a.RootCAs.Equal(b.RootCAs) && slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
	})
}

// metadata is the file information of CAFile, CertFile and KeyFile; nil for a file that is missing.
type metadata [3]fs.FileInfo

func readMetadata(config Config) (m metadata) {
	for i, name := range []string{config.CAFile, config.CertFile, config.KeyFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			m[i] = info
		}
	}
	return m
}

// equal reports whether m and other are of the same files with the same size and time of modification.
func (m metadata) equal(other metadata) bool {
	for i, info := range m {
		o := other[i]
		if (info == nil) != (o == nil) {
			return false
		}
		if info != nil && (!os.SameFile(info, o) || info.Size() != o.Size() || !info.ModTime().Equal(o.ModTime())) {
			return false
		}
	}
	return true
}
