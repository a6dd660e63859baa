// Package e2e tests the cbproxy binary with upstream processes that are killed, paused and restarted, over TCP
// connections. It contains the tests of the request path, the configuration, the admin API and the migration. The
// packages in its subfolders contain the tests of other subjects, and harness what all of them use.
package e2e
