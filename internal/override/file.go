// Package override persists the overrides of routes' keys, which operators set for a time, in a file.
package override

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cbproxy/internal/boltfile"
	"cbproxy/internal/events"
	"cbproxy/internal/files"
)

// MaxDuration is the longest time for which a key can be overridden.
const MaxDuration = 24 * time.Hour

const (
	fileName = "overrides.json"
	maxBytes = 64 << 20 // of the file: more than the largest bodies of the admin API for a thousand services
)

// content is the content of the file.
type content struct {
	Overrides map[string]events.Overrides `json:"overrides"` // by service
}

// File is the file in which overrides are kept. It is not safe for concurrent use.
type File struct{ path string }

// NewFile returns the file in a folder, which only this process may use; nil if folder is "". It is created by the first Save.
func NewFile(folder string) *File {
	if folder == "" {
		return nil
	}
	return &File{filepath.Join(folder, fileName)}
}

// Load returns the overrides in the file by service; none if f is nil or there is no file. No end is later than MaxDuration after now.
// A damaged file is renamed; quarantined is then a message about it.
func (f *File) Load(now time.Time) (overrides map[string]events.Overrides, quarantined string, err error) {
	if f == nil {
		return nil, "", nil
	}
	var stored content
	if err = boltfile.InspectPath(f.path); err == nil {
		var text []byte
		if text, err = files.ReadSmall(f.path, maxBytes); errors.Is(err, fs.ErrNotExist) {
			return nil, "", nil
		} else if err == nil {
			stored, err = parse(text)
		}
	}
	if damaged := (*damagedError)(nil); errors.As(err, &damaged) || errors.Is(err, boltfile.ErrEmpty) {
		quarantined, err = boltfile.Quarantine(f.path, err)
		return nil, quarantined, err
	} else if err != nil {
		return nil, "", fmt.Errorf("%s: %w", f.path, err)
	}
	for service, o := range stored.Overrides {
		if latest := now.Add(MaxDuration); o.Until.After(latest) { // the clock was set back
			o.Until = latest
			stored.Overrides[service] = o
		}
	}
	return stored.Overrides, "", nil
}

// damagedError is the error of a file with a content that Save has not written.
type damagedError struct{ text string }

func (e *damagedError) Error() string { return e.text }

// parse returns the content of a file. The error is a *damagedError.
func parse(text []byte) (c content, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, &damagedError{err.Error()}
	}
	if _, err := d.Token(); c.Overrides == nil || err != io.EOF {
		return c, &damagedError{"it is not a single object with overrides"}
	}
	for service, o := range c.Overrides {
		if len(o.Set) == 0 || o.Until.IsZero() {
			return c, &damagedError{fmt.Sprintf("the overrides of %q have no keys or no end", service)}
		}
	}
	return c, nil
}

// Save replaces the overrides in the file and waits until they are on the disk. If there are none, it removes the file. If it returns
// an error, the file has either these overrides or the previous ones. It does nothing if f is nil.
func (f *File) Save(overrides map[string]events.Overrides) error {
	if f == nil {
		return nil
	}
	var err error
	if len(overrides) == 0 {
		if err = os.Remove(f.path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	} else {
		err = f.replace(overrides)
	}
	if err == nil {
		err = boltfile.SyncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

// replace writes a new file and renames it.
func (f *File) replace(overrides map[string]events.Overrides) (err error) {
	text, err := json.Marshal(content{overrides})
	if err != nil {
		return err
	}
	unfinished, err := os.OpenFile(f.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = unfinished.Write(append(text, '\n'))
	if err == nil {
		err = unfinished.Sync()
	}
	if closeErr := unfinished.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(unfinished.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(unfinished.Name())
	}
	return err
}

// Flatten returns the values of a JSON object, and of those in it, by their paths. If a value is given twice, one of them is returned.
func Flatten(object json.RawMessage) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // no fields if it is no object
	flat := map[string]json.RawMessage{}
	for name, value := range fields {
		if value[0] != '{' {
			flat[name] = value
			continue
		}
		for path, inner := range Flatten(value) {
			flat[name+"."+path] = inner
		}
	}
	return flat
}
