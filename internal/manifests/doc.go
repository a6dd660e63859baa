// Package manifests has tests only. They validate the Kubernetes manifests with Kubernetes' own types and
// validation, custom resources with the API server's code for CustomResourceDefinitions, and the Compose file
// with Compose's loader. It is a module of its own, so that only those who run the tests download these.
package manifests
