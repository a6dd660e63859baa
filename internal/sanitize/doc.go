// Package sanitize prepares untrusted text, such as header fields, error messages of upstreams
// and values of a configuration file, for logs, traces, terminals and stored records. It escapes
// non-printable characters, truncates at a limit, and replaces credentials in URLs.
//
// The package imports no other package of this module. All functions are safe for concurrent use.
package sanitize
