// Package manifests has no code of its own: its tests hold the Kubernetes manifests to
// Kubernetes' own types and rules. It is a module of its own, so that only who runs the tests
// downloads those.
package manifests
