package deploy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository returns a new repository with the files of this one, committed or not, in one commit with the tag v1.2.3.
func repository(t *testing.T) string {
	t.Helper()
	for _, need := range [][]string{
		{"git", "-C", "..", "-c", "safe.directory=*", "rev-parse", "HEAD"}, {"tar", "--sort=name", "--version"}, {"sha256sum", "--version"}, {"bash", "-c", "type ssh-keygen"},
	} {
		if out, err := exec.CommandContext(t.Context(), need[0], need[1:]...).CombinedOutput(); err != nil && os.Getenv("CI") == "" {
			t.Skipf("cannot build a release here: %s: %v: %s", need[0], err, out)
		}
	}
	folder := t.TempDir()
	// git refuses a checkout of another user unless it is a safe.directory.
	listed := run(t, "..", nil, "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimSuffix(listed, "\x00"), "\x00") {
		copyFile(t, filepath.Join("..", name), filepath.Join(folder, name))
	}
	run(t, folder, nil, "git", "init", "-q")
	run(t, folder, nil, "git", "add", "-A")
	run(t, folder, nil, "git", "commit", "-q", "-m", "Add all files")
	run(t, folder, nil, "git", "tag", "v1.2.3")
	return folder
}

// copyFile copies a file with its permissions, unless it does not exist.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if errors.Is(err, os.ErrNotExist) {
		return // deleted, but not committed
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, readFile(t, filepath.Dir(from), filepath.Base(from)), info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

// clone clones a repository into a new folder.
func clone(t *testing.T, source string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "clone")
	run(t, "", nil, "git", "clone", "-q", source, folder)
	return folder
}

// release runs deploy/release of a repository, which must exit with the status, and returns its output.
func release(t *testing.T, repository string, environment []string, status int, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(repository, "deploy", "release"), args...)
	c.Dir, c.Env = repository, append(gitEnvironment(), environment...)
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	if c.ProcessState.ExitCode() != status {
		t.Fatalf("exit status %d, not %d: %s", c.ProcessState.ExitCode(), status, out)
	}
	return string(out)
}

// run runs a command that must succeed and returns its standard output.
func run(t *testing.T, folder string, environment []string, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = folder, append(gitEnvironment(), environment...)
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// gitEnvironment returns an environment in which git ignores the configuration of the user and the machine.
func gitEnvironment() []string {
	return append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
}

// readFile returns the content of a file.
func readFile(t *testing.T, folder, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fileNames returns the names of the files in a folder.
func fileNames(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
