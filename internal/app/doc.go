// Package app builds and runs the proxy: it reads the configuration, constructs the components in the order of their
// dependencies, serves the data plane and the admin plane, and applies reloads.
package app
