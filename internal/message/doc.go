// Package message holds the rules for the HTTP messages that a proxy forwards: which request targets are safe, which header
// fields the proxy sets or removes, and how Via, Upgrade and Retry-After are read and written.
package message
