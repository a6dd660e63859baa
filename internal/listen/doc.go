// Package listen parses and compares listen addresses, opens their sockets, and takes the sockets that a service manager such as systemd has
// opened and passed to the process.
package listen
