package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
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
	key := filepath.Join(t.TempDir(), "key")
	run(t, "", nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "releases@example.com", "-f", key)
	signed := filepath.Join(t.TempDir(), "a folder", "signed")
	output := release(t, clone(t, source), nil, 0, "--pgo", "off", "--sign", key, "--platform", otherPlatform, "--platform", thisPlatform, signed)
	if strings.Contains(output, "not signed") {
		t.Errorf("the output says that the release is unsigned: %s", output)
	}
	again := verifyAsDocumented(t, clone(t, source), signed, key)

	files := fileNames(t, again)
	var expected []string
	for _, platform := range []string{thisPlatform, otherPlatform} {
		name := "cbproxy_1.2.3_" + strings.ReplaceAll(platform, "/", "_")
		expected = append(expected, name+".cdx.json", name+".tar.gz")
	}
	slices.Sort(expected)
	if expected = append([]string{"SHA256SUMS"}, expected...); !slices.Equal(files, expected) {
		t.Errorf("the release has %v, want %v", files, expected)
	}
	if names := fileNames(t, signed); !slices.Equal(names, slices.Insert(slices.Clone(files), 1, "SHA256SUMS.sig")) {
		t.Errorf("the signed release has %v", names)
	}
	for _, name := range files {
		if !bytes.Equal(readFile(t, again, name), readFile(t, signed, name)) {
			t.Errorf("%s differs", name)
		}
	}
	for _, platform := range []string{thisPlatform, otherPlatform} {
		checkArchive(t, again, platform, source)
	}
}

// verifyAsDocumented runs the commands of SECURITY.md that verify a release, in its folder and in a clone of the repository, which
// they must leave as it was. It also checks that they fail for a changed file, and for other checksums than the signed ones. The
// commands build the release again, without a signature. They do that for both platforms and in another environment than that of
// the test. verifyAsDocumented returns the folder of that release.
func verifyAsDocumented(t *testing.T, repository, folder, key string) (again string) {
	t.Helper()
	page := string(readFile(t, repository, "SECURITY.md"))
	var commands []string
	for _, block := range strings.Split(page, "```sh\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		commands = append(commands, text)
	}
	if len(commands) != 2 {
		t.Fatalf("SECURITY.md has the commands %q, want two blocks", commands)
	}
	public := string(readFile(t, filepath.Dir(key), "key.pub"))
	if err := os.WriteFile(filepath.Join(folder, "allowed_signers"), []byte("releases@example.com "+public), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := strings.ReplaceAll(commands[0], "SIGNER", "releases@example.com")
	run(t, folder, nil, "bash", "-ec", verify)
	rebuild := strings.NewReplacer("deploy/release ", "deploy/release --pgo off ", "linux/amd64", thisPlatform+" --platform "+otherPlatform,
		"~/Downloads", `"`+folder+`"`).Replace(commands[1])
	environment := []string{"TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "GOFLAGS=-tags=other -ldflags=-X=main.version=9", "GOAMD64=v2", "GOOS=plan9"}
	if output := run(t, repository, environment, "bash", "-ec", rebuild); !strings.Contains(output, "is not signed") {
		t.Errorf("the output does not say that the release is unsigned: %s", output)
	}
	if changed := run(t, repository, nil, "git", "status", "--porcelain"); changed != "" {
		t.Errorf("the commands have changed the repository: %s", changed)
	}

	fails := func(what, file string) {
		original := readFile(t, folder, file)
		change := func(content []byte) {
			if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		change(append(slices.Clone(original), '\n'))
		if err := exec.CommandContext(t.Context(), "bash", "-ec", "cd \"$0\"\n"+verify, folder).Run(); err == nil {
			t.Errorf("the commands accept %s", what)
		}
		change(original)
	}
	fails("a changed archive", "cbproxy_1.2.3_"+strings.ReplaceAll(thisPlatform, "/", "_")+".tar.gz")
	fails("other checksums than the signed ones", "SHA256SUMS")
	if err := os.Remove(filepath.Join(folder, "allowed_signers")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(repository, "dist", "again")
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
	checkContents(t, names, name, source)
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

// checkContents checks that an archive has the binary, its notices, its own README and exactly what contents.txt lists, at the same
// paths as the repository.
func checkContents(t *testing.T, names []string, name, source string) {
	t.Helper()
	expected := []string{"cbproxy", "README.md", "THIRD-PARTY-NOTICES.txt"}
	for line := range strings.Lines(string(readFile(t, source, "deploy/archive/contents.txt"))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		listed := run(t, source, nil, "git", "ls-files", "--", strings.TrimSpace(line))
		if listed == "" {
			t.Errorf("contents.txt lists %q, which does not exist", line)
		}
		expected = append(expected, strings.Split(strings.TrimSpace(listed), "\n")...)
	}
	var got []string
	for _, n := range names {
		if !strings.HasSuffix(n, "/") {
			got = append(got, strings.TrimPrefix(n, name+"/"))
		}
	}
	slices.Sort(expected)
	slices.Sort(got)
	if !slices.Equal(got, expected) {
		t.Errorf("the archive has %v, want %v", got, expected)
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
