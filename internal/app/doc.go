// Package app builds and runs the proxy: it reads the configuration, constructs the components in the order of their
// dependencies, serves requests and the admin API, and applies reloads.
package app
