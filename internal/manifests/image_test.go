package manifests

import (
	"regexp"
	"testing"

	apps "k8s.io/api/apps/v1"
)

// The value `images` of the kustomization sets name, tag and digest of the sidecar's image.
func TestExampleNamesImageByDigest(t *testing.T) {
	image := only[*apps.Deployment](t, buildObjects(t, "example")).Spec.Template.Spec.InitContainers[0].Image
	if !regexp.MustCompile(`^[a-z.]+/cbproxy:\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$`).MatchString(image) {
		t.Errorf("the image is %s", image)
	}
	// Without the value the image has a tag, because with none a cluster pulls latest at each start.
	for kind, pod := range typedPods(t) {
		if image := pod.Spec.InitContainers[0].Image; image != "cbproxy:dev" {
			t.Errorf("%s: the image is %s", kind, image)
		}
	}
}
