package proxy

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

	"cbproxy/routes"
)

// upstreamTLS secures connections to one upstream. It reads its files anew when they have
// changed, so that certificates are rotated without a reload; while what is there can't be
// used, the last good ones stay in use. A connection that exists stays as it is: who was at
// its other end has been verified. Safe for concurrent use.
type upstreamTLS struct {
	keys   routes.TLS
	logger *slog.Logger

	mu      sync.Mutex  // guards what follows
	seen    tlsFiles    // the files as they were when they were last read, well or not
	current *tls.Config // never modified
}

// newUpstreamTLS returns an error if the files that keys names can't be used.
func newUpstreamTLS(keys routes.TLS, logger *slog.Logger) (*upstreamTLS, error) {
	u := &upstreamTLS{keys: keys, logger: logger}
	var err error
	u.seen, u.current, err = loadTLS(keys)
	return u, err
}

// config returns what a new connection is secured by, as the files are now if they can be used.
func (u *upstreamTLS) config() *tls.Config {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen.same(statTLS(u.keys)) {
		return u.current
	}
	seen, next, err := loadTLS(u.keys)
	u.seen = seen
	switch {
	case err != nil:
		u.logger.Warn("the upstream's TLS files can't be used, the last good ones stay in use", "error", err)
	case !sameCertificates(u.current, next):
		u.logger.Info("the upstream's TLS files have changed, new connections use them")
		u.current = next // with a cache of its own: a session must not outlive what it was verified by
	}
	return u.current
}

// loadAttempts bounds how often files are read again that change while they are read.
const loadAttempts = 5

// loadTLS returns how connections are secured by what the files hold now, and the files'
// metadata from before they were read: an edit that comes in between must be noticed later.
func loadTLS(keys routes.TLS) (seen tlsFiles, config *tls.Config, err error) {
	for range loadAttempts {
		seen = statTLS(keys)
		config, err = readTLS(keys)
		if seen.same(statTLS(keys)) {
			break // they belong together: a swap of a symlink on the way changes all at once
		}
	}
	return seen, config, err
}

func readTLS(keys routes.TLS) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         keys.ServerName,
		InsecureSkipVerify: keys.InsecureSkipVerify, // #nosec G402 -- only if the operator says so
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if keys.CAFile != "" {
		authorities, err := routes.LoadAuthorities(keys.CAFile)
		if err != nil {
			return nil, fmt.Errorf("load tls.ca_file %s: %w", keys.CAFile, err)
		}
		c.RootCAs = authorities
	}
	if keys.CertFile == "" {
		return c, nil
	}
	certificate, err := routes.LoadKeyPair(keys.CertFile, keys.KeyFile)
	var ofKey *routes.KeyFileError
	switch {
	case errors.As(err, &ofKey):
		return nil, fmt.Errorf("load tls.key_file %s: %w", keys.KeyFile, ofKey.Err)
	case err != nil:
		return nil, fmt.Errorf("load tls.cert_file %s: %w", keys.CertFile, err)
	}
	c.Certificates = []tls.Certificate{*certificate}
	return c, nil
}

// sameCertificates tells whether a and b, of the same keys, hold the same certificates.
// Private keys belong to these.
func sameCertificates(a, b *tls.Config) bool {
	return a.RootCAs.Equal(b.RootCAs) && slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
	})
}

// tlsFiles is the metadata of ca_file, cert_file and key_file, nil for what is not there.
type tlsFiles [3]fs.FileInfo

func statTLS(keys routes.TLS) (files tlsFiles) {
	for i, name := range []string{keys.CAFile, keys.CertFile, keys.KeyFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			files[i] = info
		}
	}
	return files
}

// same tells whether f and other are the same files with, as far as can be seen, the same content.
func (f tlsFiles) same(other tlsFiles) bool {
	for i, info := range f {
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
