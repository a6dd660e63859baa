// Package manifests has no code of its own: its tests hold the Kubernetes manifests to
// Kubernetes' own types and rules, and the Compose file to Compose's own. It is a module of its own, so that only who runs the tests
// downloads those.
package manifests
