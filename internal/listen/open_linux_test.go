package listen_test

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"cbproxy/internal/listen"
)

func open(t *testing.T, text string) (*listen.Listener, error) {
	t.Helper()
	a, err := listen.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return listen.Open(t.Context(), a)
}

// permissions returns the mode and the group of a file.
func permissions(t *testing.T, path string) (fs.FileMode, int) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm(), int(info.Sys().(*syscall.Stat_t).Gid)
}

// otherGroup returns a group that this process may give a file, other than its own. It skips the test if there is none.
func otherGroup(t *testing.T) int {
	t.Helper()
	if os.Getuid() == 0 {
		return os.Getgid() + 12345
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g != os.Getgid() {
			return g
		}
	}
	t.Skip("the user is in one group only")
	return -1
}

// TestOpenSetsModeAndGroup checks the permissions of Unix sockets.
func TestOpenSetsModeAndGroup(t *testing.T) {
	group := otherGroup(t)
	umask := syscall.Umask(0o027)
	defer syscall.Umask(umask)
	for _, c := range []struct {
		query string
		mode  fs.FileMode
		gid   int
	}{
		{"?mode=0666", 0o666, os.Getgid()},
		{"?mode=600", 0o600, os.Getgid()},
		{fmt.Sprintf("?mode=0660&group=%d", group), 0o660, group},
	} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := open(t, "unix://"+path+c.query)
		if err != nil {
			t.Fatal(err)
		}
		if mode, gid := permissions(t, path); mode != c.mode || gid != c.gid {
			t.Errorf("%q: mode %04o, group %d, want %04o, %d", c.query, mode, gid, c.mode, c.gid)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

// TestSocketIsNeverMoreAccessible watches the files of sockets while they are created: none may be accessible with more
// permissions than configured, or for another group, although the umask allows everything.
func TestSocketIsNeverMoreAccessible(t *testing.T) {
	group := otherGroup(t)
	umask := syscall.Umask(0)
	defer syscall.Umask(umask)
	path := filepath.Join(t.TempDir(), "s")
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			info, err := os.Lstat(path)
			if err != nil {
				continue
			}
			if mode, gid := info.Mode().Perm(), int(info.Sys().(*syscall.Stat_t).Gid); mode&^0o660 != 0 || mode&0o060 != 0 && gid != group {
				t.Errorf("mode %04o, group %d", mode, gid)
				return
			}
		}
	})
	for range 500 {
		l, err := open(t, fmt.Sprintf("unix://%s?mode=0660&group=%d", path, group))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
	close(done)
	watching.Wait()
}

// TestSetPermissionsOfOpenSocket checks that a change applies to the socket that is open, and that it can be undone.
func TestSetPermissionsOfOpenSocket(t *testing.T) {
	group := otherGroup(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := open(t, "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before, _ := permissions(t, path)
	for _, c := range []struct {
		query string
		mode  fs.FileMode
		gid   int
	}{
		{fmt.Sprintf("?mode=0620&group=%d", group), 0o620, group},
		{"?mode=0600", 0o600, os.Getgid()},
		{"", before, os.Getgid()},
	} {
		a, err := listen.Parse("unix://" + path + c.query)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetPermissions(a); err != nil {
			t.Fatal(err)
		}
		if mode, gid := permissions(t, path); mode != c.mode || gid != c.gid {
			t.Errorf("%q: mode %04o, group %d, want %04o, %d", c.query, mode, gid, c.mode, c.gid)
		}
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
