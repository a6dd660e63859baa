//go:build !unix

package http1

// watchSocket does nothing: here a socket can't be looked at.
func (c *conn) watchSocket() {}

// isQuiet takes every connection for usable. That it was closed is found out by using it.
func (c *conn) isQuiet() bool { return true }
