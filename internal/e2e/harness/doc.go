// Package harness starts and observes what the end-to-end tests need: the real cbproxy binary, upstream processes that
// can be killed, paused and restarted, recorders, raw upstreams and fleets. Its functions fail the test that calls them.
package harness
