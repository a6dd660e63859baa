// Package tlsfiles loads certificates and keys from PEM files and reloads them when the files change,
// for TLS clients (upstreams, Redis) and servers (the admin port). Of this module it imports only
// internal/files.
package tlsfiles
