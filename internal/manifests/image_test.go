package manifests

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
)

// readLines returns the lines of a file of the repository's root.
func readLines(t *testing.T, name string) []string {
	t.Helper()
	content, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(content), "\n")
}

// The context of the image's build is a list of what is allowed: the folders of the packages that the binary is built from.
// Otherwise a file next to them, such as a token, would be sent to the builder and stay in its cache.
func TestImageContextIsAllowList(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", "./cmd/cbproxy")
	list.Dir = "../.." // the main module
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"!go.mod", "!go.sum"}
	for path := range strings.FieldsSeq(string(out)) {
		_, path, _ = strings.Cut(path, "/") // after the module's name
		folder, _, _ := strings.Cut(path, "/")
		want = append(want, "!"+folder)
	}
	slices.Sort(want)
	var allowed []string
	all := false
	for _, line := range readLines(t, ".dockerignore") {
		if strings.HasPrefix(line, "!") {
			if !all {
				t.Errorf("%s comes before *", line)
			}
			allowed = append(allowed, line)
		}
		all = all || line == "*"
	}
	if slices.Sort(allowed); !slices.Equal(allowed, slices.Compact(want)) {
		t.Errorf("allowed %q\nwant    %q", allowed, slices.Compact(want))
	}
}

// A declared build argument is in the image's history, and an older engine refuses --start-interval.
func TestDockerfileIsPortable(t *testing.T) {
	declared := regexp.MustCompile(`(?i)^(ARG|ENV)\s+(https?|ftp|all|no)_proxy\b`)
	health := 0
	for _, line := range readLines(t, "Dockerfile") {
		if declared.MatchString(line) {
			t.Errorf("%s is in the image's history", line)
		}
		if strings.HasPrefix(line, "HEALTHCHECK ") {
			health++
			if strings.Contains(line, "--start-interval") {
				t.Error("Docker before 25, Podman and buildah refuse --start-interval")
			}
		}
	}
	if health != 1 {
		t.Errorf("%d lines HEALTHCHECK", health)
	}
}

// Only the data folder belongs to the image's user. Some builders give all folders that COPY creates to the user of --chown,
// so its parents have to exist before.
func TestDockerfileCopiesParentsOfDataFolderFirst(t *testing.T) {
	lines := readLines(t, "Dockerfile")
	parents := slices.Index(lines, "COPY --from=build /out/root /")
	data := slices.IndexFunc(lines, func(l string) bool { return strings.HasSuffix(l, " /out/data /var/lib/cbproxy") })
	if created := strings.Contains(strings.Join(lines, "\n"), " /out/root/var/lib "); parents < 0 || data < parents || !created {
		t.Errorf("/var/lib is created: %t, its copy is line %d, that of the data folder line %d", created, parents+1, data+1)
	}
}

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
