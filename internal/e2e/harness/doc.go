// Package harness starts and controls the processes of the end-to-end tests: the cbproxy binary, upstreams that can be
// killed, paused and restarted, request recorders and fleets of proxies. Its methods send requests and read the admin API.
//
// Its functions and methods fail the test that calls them on an error, so that tests need no error handling.
package harness
