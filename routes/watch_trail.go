package routes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symlinks a path may lead through, as in Linux.
const maxLinks = 40

// trail is the way from a path to the file it stands for.
type trail struct {
	// folders are those in which an entry decides where the path leads: the file's own, and
	// that of each symlink on the way.
	folders []string
	// mark changes when the path leads elsewhere or the file's metadata change.
	mark string
}

// follow walks path, symlink by symlink.
func follow(path string) trail {
	var t trail
	var mark strings.Builder
	if !filepath.IsAbs(path) {
		folder, err := os.Getwd()
		if err != nil {
			return t
		}
		path = folder + "/" + path // not Join: .. behind a symlink leads up from the link's target
	}
	rest, done := splitPath(path), "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(done, name)
		info, err := os.Lstat(next)
		if err != nil {
			fmt.Fprintf(&mark, "%s gone\n", next)
			t.add(done)
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if done = next; len(rest) == 0 {
				fmt.Fprintf(&mark, "%s %v %d %d\n", next, info.Mode(), info.Size(), info.ModTime().UnixNano())
				t.add(filepath.Dir(next))
			}
			continue
		}
		target, err := os.Readlink(next)
		fmt.Fprintf(&mark, "%s -> %s\n", next, target)
		t.add(done)
		if links++; err != nil || links > maxLinks {
			break
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(splitPath(target), rest...)
	}
	t.mark = mark.String()
	return t
}

func (t *trail) add(folder string) {
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
