// Package e2e tests cbproxy from outside: the real binary, with real upstream processes
// that are killed, paused and restarted, over real sockets. Its tests are all there is to
// it.
package e2e
