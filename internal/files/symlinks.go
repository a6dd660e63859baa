package files

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is the largest number of symbolic links in a path, as in Linux.
const maxLinks = 40

// resolvedPath is the result of following the symbolic links of a path.
type resolvedPath struct {
	// folders are the folders to watch: the one of the file and the one of each symbolic link.
	folders []string
	// fingerprint changes when the path resolves to another file or the file's metadata change.
	fingerprint string
}

// resolve follows path, one symbolic link after the other.
func resolve(path string) resolvedPath {
	var t resolvedPath
	var fingerprint strings.Builder
	if !filepath.IsAbs(path) {
		folder, err := os.Getwd()
		if err != nil {
			return t
		}
		path = folder + "/" + path // not Join: ".." after a link is the parent of the link's target
	}
	rest, done := splitPath(path), "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(done, name)
		info, err := os.Lstat(next)
		if err != nil {
			fmt.Fprintf(&fingerprint, "%s gone\n", next)
			t.add(done)
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if done = next; len(rest) == 0 {
				fmt.Fprintf(&fingerprint, "%s %v %d %d\n", next, info.Mode(), info.Size(), info.ModTime().UnixNano())
				t.add(filepath.Dir(next))
			}
			continue
		}
		target, err := os.Readlink(next)
		fmt.Fprintf(&fingerprint, "%s -> %s\n", next, target)
		t.add(done)
		if links++; err != nil || links > maxLinks {
			break
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(splitPath(target), rest...)
	}
	t.fingerprint = fingerprint.String()
	return t
}

func (t *resolvedPath) add(folder string) {
	for _, known := range t.folders {
		if known == folder {
			return
		}
	}
	t.folders = append(t.folders, folder)
}

func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
