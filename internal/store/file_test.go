package store_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"cbproxy/internal/boltfile"
	"cbproxy/internal/store"
)

const storeFile = "cbproxy.db"

// createStore creates a store with a state and a history, and returns its folder.
func createStore(t testing.TB) string {
	folder := t.TempDir()
	f := mustOpen(t, folder)
	for i := range 150 {
		if err := f.Append(t.Context(), testChange("svc", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Save(t.Context(), testState("svc", 1)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func mustOpen(t testing.TB, folder string) *store.File {
	t.Helper()
	f, setAside, err := store.OpenFile(folder)
	if err != nil || setAside != "" {
		t.Fatal(err, setAside)
	}
	return f
}

func TestFileIsOnlyAccessibleByOwner(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made", "here")
	f := mustOpen(t, folder)
	defer f.Close()
	for path, want := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, storeFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestOpenFileRejectsFileInUse(t *testing.T) {
	folder := t.TempDir()
	f := mustOpen(t, folder)
	if _, _, err := store.OpenFile(folder); !errors.Is(err, boltfile.ErrInUse) || !strings.Contains(err.Error(), folder) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := f.Save(t.Context(), testState("svc", 1)); err != nil {
		t.Errorf("after the second attempt to open it: %v", err)
	}
	_ = f.Close()
	f = mustOpen(t, folder)
	_ = f.Close()
}

func TestOpenFileRejectsUnusableFolder(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, storeFile), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below"), folder} {
		if _, setAside, err := store.OpenFile(path); err == nil || setAside != "" {
			t.Errorf("%s: opened, %q", path, setAside)
		}
	}
}

// unusable returns functions that make the content of a store's file unusable.
func unusable(t *testing.T) map[string]func(content []byte) []byte {
	foreign := func(content []byte) []byte {
		path := filepath.Join(t.TempDir(), "foreign.db")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		_ = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		_ = db.Close()
		other, _ := os.ReadFile(path)
		return other
	}
	return map[string]func([]byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"text":             func([]byte) []byte { return []byte("these are my notes\n") },
		"zeros":            func(c []byte) []byte { return make([]byte, len(c)) },
		"one page":         func(c []byte) []byte { return c[:4096] },
		"half":             func(c []byte) []byte { return c[:len(c)/2/4096*4096] },
		"partial page":     func(c []byte) []byte { return c[:3*4096+17] },
		"another database": foreign,
		"another format": func(c []byte) []byte {
			return bytes.ReplaceAll(c, []byte("format1"), []byte("format2"))
		},
		"garbage after the meta pages": func(c []byte) []byte {
			r := rand.New(rand.NewPCG(1, 2))
			for i := 2 * 4096; i < len(c); i++ {
				c[i] = byte(r.Uint32())
			}
			return c
		},
	}
}

func TestUnusableFileIsSetAsideUnchanged(t *testing.T) {
	for name, damage := range unusable(t) {
		t.Run(name, func(t *testing.T) {
			folder := createStore(t)
			path := filepath.Join(folder, storeFile)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damaged := damage(content)
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, setAside, err := store.OpenFile(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			kept, _ := filepath.Glob(path + ".set-aside-*")
			if len(kept) != 1 || !strings.Contains(setAside, kept[0]) {
				t.Fatalf("set aside: %q, there is %q", setAside, kept)
			}
			if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, damaged) {
				t.Errorf("%d bytes were set aside, want %d: %v", len(got), len(damaged), err)
			}
			if _, found, err := f.Load(t.Context(), "svc"); found || err != nil {
				t.Errorf("the new store is not empty: %v, %v", found, err)
			}
			if err := f.Save(t.Context(), testState("svc", 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzFile opens damaged files. Opening succeeds, and using the store does not panic.
func FuzzFile(f *testing.F) {
	content, err := os.ReadFile(filepath.Join(createStore(f), storeFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(8200), []byte{1, 2, 3})
	f.Add(uint32(0), []byte{0xff})
	f.Add(uint32(16), []byte("\xed\xda\x0c\xed"))
	f.Add(uint32(4096*2+8), []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		folder := t.TempDir()
		damaged := bytes.Clone(content)
		if i := int(at) % len(damaged); true {
			copy(damaged[i:], patch)
		}
		if err := os.WriteFile(filepath.Join(folder, storeFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := store.OpenFile(folder)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = s.Load(t.Context(), "svc") // the state may be lost or unreadable
		_, _ = s.History(t.Context(), "svc", 1000)
		_ = s.Save(t.Context(), testState("svc", 2))
		_ = s.Append(t.Context(), testChange("svc", 7))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
