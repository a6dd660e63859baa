// Package e2e tests cbproxy from outside: the real binary, with real upstream processes that are killed, paused and
// restarted, over real sockets. Its own tests are those of the request path, of configuration and of migration; its
// subfolders have those of other subjects.
package e2e
