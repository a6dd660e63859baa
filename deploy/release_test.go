package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// releaseVariable is the environment variable that enables the tests that build whole releases.
const releaseVariable = "CBPROXY_TEST_RELEASE"

// The platforms of the test: that of this machine, whose binary can be run, and a different one.
var (
	thisPlatform  = runtime.GOOS + "/" + runtime.GOARCH
	otherPlatform = map[bool]string{true: "linux/arm64", false: "linux/amd64"}[thisPlatform == "linux/amd64"]
)

// Two releases of a commit have the same bytes in different environments, and their contents, licences and bill
// of materials are complete. Compiling takes minutes, so the test runs only if releaseVariable is set.
func TestReleaseIsReproducible(t *testing.T) {
	if os.Getenv(releaseVariable) == "" {
		t.Skipf("%s is not set", releaseVariable)
	}
	source := repository(t)
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "a folder", "second")
	output := release(t, clone(t, source), nil, 0, "--pgo", "off", "--platform", thisPlatform, "--platform", otherPlatform, first)
	if !strings.Contains(output, "is not signed") {
		t.Errorf("the output does not say that the release is unsigned: %s", output)
	}
	key := filepath.Join(t.TempDir(), "key")
	run(t, "", nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "releases@example.com", "-f", key)
	otherEnvironment := []string{"TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "GOFLAGS=-tags=other -ldflags=-X=main.version=9", "GOAMD64=v2", "GOOS=plan9"}
	output = release(t, clone(t, source), otherEnvironment, 0, "--pgo", "off", "--sign", key, "--platform", otherPlatform, "--platform", thisPlatform, second)
	if strings.Contains(output, "not signed") {
		t.Errorf("the output says that the release is unsigned: %s", output)
	}

	files := fileNames(t, first)
	var expected []string
	for _, platform := range []string{thisPlatform, otherPlatform} {
		name := "cbproxy_1.2.3_" + strings.ReplaceAll(platform, "/", "_")
		expected = append(expected, name+".cdx.json", name+".tar.gz")
	}
	slices.Sort(expected)
	if expected = append([]string{"SHA256SUMS"}, expected...); !slices.Equal(files, expected) {
		t.Errorf("the release has %v, want %v", files, expected)
	}
	if signed := fileNames(t, second); !slices.Equal(signed, slices.Insert(slices.Clone(files), 1, "SHA256SUMS.sig")) {
		t.Errorf("the signed release has %v", signed)
	}
	for _, name := range files {
		if !bytes.Equal(readFile(t, first, name), readFile(t, second, name)) {
			t.Errorf("%s differs", name)
		}
	}
	run(t, second, nil, "sha256sum", "--strict", "-c", "SHA256SUMS")
	checkSignature(t, second, key)
	for _, platform := range []string{thisPlatform, otherPlatform} {
		checkArchive(t, first, platform, source)
	}
}

// checkSignature verifies the signature as users do, and checks that it does not fit other contents.
func checkSignature(t *testing.T, folder, key string) {
	t.Helper()
	signers := filepath.Join(t.TempDir(), "allowed_signers")
	public := string(readFile(t, filepath.Dir(key), "key.pub"))
	if err := os.WriteFile(signers, []byte("releases@example.com "+public), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(sums []byte) error {
		c := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "verify", "-f", signers, "-I", "releases@example.com",
			"-n", "cbproxy-release", "-s", filepath.Join(folder, "SHA256SUMS.sig"))
		c.Stdin = bytes.NewReader(sums)
		return c.Run()
	}
	sums := readFile(t, folder, "SHA256SUMS")
	if err := verify(sums); err != nil {
		t.Errorf("verify the signature: %v", err)
	}
	if verify(append(sums, '\n')) == nil {
		t.Error("the signature also fits other checksums")
	}
}

// checkArchive checks the archive of a platform and its bill of materials.
func checkArchive(t *testing.T, folder, platform, source string) {
	t.Helper()
	name := "cbproxy_1.2.3_" + strings.ReplaceAll(platform, "/", "_")
	unpacked := t.TempDir()
	entries := unpack(t, filepath.Join(folder, name+".tar.gz"), unpacked)
	seconds, err := strconv.ParseInt(strings.TrimSpace(run(t, source, nil, "git", "log", "-1", "--format=%ct")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
		if e.Uid != 0 || e.Gid != 0 || e.Uname != "" || e.Gname != "" || e.Mode&0o022 != 0 || !e.ModTime.Equal(time.Unix(seconds, 0)) {
			t.Errorf("%s: %s is owned by %d:%d (%s:%s), mode %o, time %v", platform, e.Name, e.Uid, e.Gid, e.Uname, e.Gname, e.Mode, e.ModTime)
		}
	}
	expected := []string{"/"}
	for _, file := range []string{"CHANGELOG.md", "README.md", "SECURITY.md", "THIRD-PARTY-NOTICES.txt", "cbproxy", "cbproxy.service", "cbproxy.socket", "config.example.yaml", "config.schema.json"} {
		expected = append(expected, "/"+file)
	}
	err = filepath.WalkDir(filepath.Join(source, "docs"), func(path string, d fs.DirEntry, err error) error {
		file, _ := filepath.Rel(source, path) // path is below source
		if expected = append(expected, "/"+file); err == nil && d.IsDir() {
			expected[len(expected)-1] += "/"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range expected {
		expected[i] = name + expected[i]
	}
	if !slices.Equal(names, expected) {
		t.Errorf("%s: the archive has %v", platform, names)
	}
	binary := filepath.Join(unpacked, name, "cbproxy")
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	checkBuild(t, info, platform)
	checkBillOfMaterials(t, readFile(t, folder, name+".cdx.json"), info)
	checkNotices(t, string(readFile(t, filepath.Join(unpacked, name), "THIRD-PARTY-NOTICES.txt")), info)
	if platform == thisPlatform {
		commit := strings.TrimSpace(run(t, source, nil, "git", "rev-parse", "--short=12", "HEAD"))
		if got, want := run(t, "", nil, binary, "version"), "cbproxy 1.2.3, commit "+commit+", "+runtime.Version()+"\n"; got != want {
			t.Errorf("version prints %q, want %q", got, want)
		}
		run(t, "", nil, binary, "check", "--config", filepath.Join(unpacked, name, "config.example.yaml"))
	}
}

// checkBuild checks that the binary was built for the platform and without local paths.
func checkBuild(t *testing.T, info *buildinfo.BuildInfo, platform string) {
	t.Helper()
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if got := settings["GOOS"] + "/" + settings["GOARCH"]; got != platform {
		t.Errorf("%s: the binary is for %s", platform, got)
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
		t.Errorf("%s: it was built with %v", platform, settings)
	}
}

// checkBillOfMaterials checks that it lists exactly the linked modules, each with its version and a licence.
func checkBillOfMaterials(t *testing.T, document []byte, info *buildinfo.BuildInfo) {
	t.Helper()
	var bill struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct {
			Name, Version string
			Evidence      struct{ Licenses []any }
		}
	}
	if err := json.Unmarshal(document, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.Metadata.Component.Name != "cbproxy" || bill.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("the bill of materials is for %+v", bill.Metadata.Component)
	}
	linked := map[string]string{"std": strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		linked[m.Path] = m.Version
	}
	for _, c := range bill.Components {
		if version := linked[c.Name]; version == "" || version != strings.TrimPrefix(c.Version, "go") {
			t.Errorf("%s %s is in the bill of materials, %q is linked", c.Name, c.Version, version)
		}
		if c.Name != "std" && len(c.Evidence.Licenses) == 0 {
			t.Errorf("%s has no licence in the bill of materials", c.Name)
		}
		delete(linked, c.Name)
	}
	if len(linked) > 0 {
		t.Errorf("the bill of materials lacks %v", linked)
	}
}

// checkNotices checks that the notices have the licences of all linked modules.
func checkNotices(t *testing.T, notices string, info *buildinfo.BuildInfo) {
	t.Helper()
	heads := []string{"Go " + info.GoVersion + ": LICENSE", "cbproxy/internal/admin/dashboard/uplot/LICENSE: LICENSE"}
	for _, m := range info.Deps {
		heads = append(heads, m.Path+" "+m.Version+": LICEN")
	}
	for _, head := range heads {
		_, text, ok := strings.Cut(notices, "\n==== "+head)
		if text, _, _ = strings.Cut(text, "\n==== "); !ok || len(text) < 500 {
			t.Errorf("the notices lack the licence of %s", head)
		}
	}
}

// unpack unpacks an archive and returns its entries.
func unpack(t *testing.T, archive, folder string) (entries []*tar.Header) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("the gzip header of %s has the name %q and the time %v", archive, z.Name, z.ModTime)
	}
	for r := tar.NewReader(z); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	run(t, folder, nil, "tar", "-xzf", archive)
	return entries
}
