package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestReleaseSaysWhatIsWrong(t *testing.T) {
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
		says         string
		args         []string
	}{
		{"help", source, nil, 0, "Usage:\n  deploy/release [flags] FOLDER", []string{"--help"}},
		{"no folder", source, nil, 2, "say into which FOLDER", nil},
		{"two folders", source, nil, 2, "one FOLDER only, got a and b", []string{"a", "b"}},
		{"a flag that is none", source, nil, 2, "unknown flag --force", []string{"--force", out}},
		{"a flag without its value", source, nil, 2, "--version needs a value", []string{out, "--version"}},
		{"a platform that is none", source, nil, 2, "--platform must be OS/ARCH, got arm64", []string{"--platform", "arm64", out}},
		{"a way to use the profile that is none", source, nil, 2, "--pgo must be auto or off, got fast", []string{"--pgo", "fast", out}},
		{"a version that is none", source, nil, 2, "a version is like 1.2.3 or 1.2.3-rc.1, got 1 -X", []string{"--version", "1 -X", out}},
		{"no tag", untagged, nil, 2, "HEAD has no tag", []string{out}},
		{"a change that is not committed", dirty, nil, 1, "?? new.go", []string{out}},
		{"a release that is there", source, nil, 1, "is not overwritten", []string{full}},
		{"no key", source, nil, 1, "can't be read", []string{"--sign", filepath.Join(full, "key"), out}},
		{"no Go", source, []string{"PATH=" + bare}, 1, "go is missing", []string{out}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if said := release(t, c.folder, c.environment, c.status, c.args...); !strings.Contains(said, c.says) {
				t.Errorf("it says %q, not %q", said, c.says)
			}
		})
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("%s was made: %v", out, err)
	}
	if names := namesIn(t, full); len(names) != 1 {
		t.Errorf("the old release is now %v", names)
	}
}

// The binary of a release is that of the image: it is built by the same flags.
func TestReleaseIsBuiltAsTheImageIs(t *testing.T) {
	t.Parallel()
	flags := func(file string) string {
		text := strings.ReplaceAll(string(content(t, "..", file)), "\\\n", " ")
		found := regexp.MustCompile(`go build (.*?) -o `).FindStringSubmatch(strings.Join(strings.Fields(text), " "))
		if found == nil {
			t.Fatalf("%s builds nothing", file)
		}
		return strings.ToLower(strings.NewReplacer("{", "", "}", "").Replace(found[1]))
	}
	if image, release := flags("Dockerfile"), flags("deploy/release"); image != release {
		t.Errorf("the image is built by %s, a release by %s", image, release)
	}
}
