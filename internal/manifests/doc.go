// Package manifests only has tests. They validate the Kubernetes manifests with Kubernetes' types and validation, custom
// resources with the API server's code for CustomResourceDefinitions, the Helm charts with Helm's code, and the Compose file
// with Compose's loader. It is a separate module, so that building cbproxy does not download these dependencies.
package manifests
