// Package events holds the types that are shared by all packages, and the bus that publishes
// events from the package in which they occur to their subscribers.
package events
