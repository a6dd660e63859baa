package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The release script reports wrong arguments and preconditions, and then creates nothing.
func TestReleaseReportsErrors(t *testing.T) {
	t.Parallel()
	source := repository(t)
	untagged, dirty, full, bare := clone(t, source), clone(t, source), t.TempDir(), t.TempDir()
	run(t, untagged, nil, "git", "tag", "-d", "v1.2.3")
	for _, file := range []string{filepath.Join(dirty, "new.go"), filepath.Join(full, "SHA256SUMS")} {
		if err := os.WriteFile(file, []byte("package main\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"bash", "dirname", "git"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bare, tool)); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		what, folder string
		environment  []string
		status       int
		want         string
		args         []string
	}{
		{"help", source, nil, 0, "Usage:\n  deploy/release [flags] FOLDER", []string{"--help"}},
		{"no folder", source, nil, 2, "FOLDER is missing", nil},
		{"two folders", source, nil, 2, "expected one FOLDER, got a and b", []string{"a", "b"}},
		{"unknown flag", source, nil, 2, "unknown flag --force", []string{"--force", out}},
		{"a flag without a value", source, nil, 2, "--version needs a value", []string{out, "--version"}},
		{"an invalid platform", source, nil, 2, "--platform must be OS/ARCH, got arm64", []string{"--platform", "arm64", out}},
		{"an invalid value of --pgo", source, nil, 2, "--pgo must be auto or off, got fast", []string{"--pgo", "fast", out}},
		{"an invalid version", source, nil, 2, "--version must be like 1.2.3 or 1.2.3-rc.1, got 1 -X", []string{"--version", "1 -X", out}},
		{"no tag", untagged, nil, 2, "HEAD has no tag", []string{out}},
		{"an uncommitted change", dirty, nil, 1, "?? new.go", []string{out}},
		{"a folder that is not empty", source, nil, 1, "is not overwritten", []string{full}},
		{"no key", source, nil, 1, "can't be read", []string{"--sign", filepath.Join(full, "key"), out}},
		{"no Go", source, []string{"PATH=" + bare}, 1, "go is missing", []string{out}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if output := release(t, c.folder, c.environment, c.status, c.args...); !strings.Contains(output, c.want) {
				t.Errorf("the output is %q, want %q in it", output, c.want)
			}
		})
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("%s was created: %v", out, err)
	}
	if names := fileNames(t, full); len(names) != 1 {
		t.Errorf("the old release has changed: %v", names)
	}
}

// A release and the image are built with the same flags.
func TestReleaseAndImageHaveSameBuildFlags(t *testing.T) {
	t.Parallel()
	flags := func(file string) string {
		text := strings.ReplaceAll(string(readFile(t, "..", file)), "\\\n", " ")
		found := regexp.MustCompile(`go build (.*?) -o `).FindStringSubmatch(strings.Join(strings.Fields(text), " "))
		if found == nil {
			t.Fatalf("%s has no go build", file)
		}
		return strings.ToLower(strings.NewReplacer("{", "", "}", "").Replace(found[1]))
	}
	if image, release := flags("Dockerfile"), flags("deploy/release"); image != release {
		t.Errorf("the image is built with %s, a release with %s", image, release)
	}
}
