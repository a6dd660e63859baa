package outcomes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"cbproxy/internal/boltfile"
)

// magic begins the first block of a file, which has no records. The number of slots follows, in 4 bytes.
const magic = "cbproxy outcomes 1\n\x00"

// errInUse is the error of a file that another process has open.
var errInUse = errors.New("in use by another process")

// file is a storage in a file: the first block, then the slots.
type file struct {
	f    *os.File
	path string
}

// opened is a file with what was found in it.
type opened struct {
	file
	slots  []stored
	newest *block // nil: there is none
}

// openFile opens the file at path, or creates it, for a number of slots. A file that is damaged is renamed; message says so.
func openFile(path string, slots int) (o *opened, message string, err error) {
	o, err = tryOpen(path, slots)
	var damaged *damagedError
	if errors.As(err, &damaged) || errors.Is(err, boltfile.ErrEmpty) {
		if message, err = boltfile.Quarantine(path, err); err == nil {
			o, err = tryOpen(path, slots)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("open the outcomes %s: %w", path, err)
	}
	return o, message, nil
}

// damagedError is the error of a file whose content is not that of a ring.
type damagedError struct{ what string }

func (e *damagedError) Error() string { return "damaged: " + e.what }

func tryOpen(path string, slots int) (*opened, error) {
	inspectErr := boltfile.InspectPath(path)
	if inspectErr != nil && !errors.Is(inspectErr, boltfile.ErrEmpty) {
		return nil, inspectErr
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- a path of the configuration
	if err != nil {
		return nil, err
	}
	o := &opened{file: file{f, path}}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errInUse
	}
	if err := o.load(slots); err != nil {
		_ = f.Close()
		return nil, err
	}
	return o, nil
}

// load reads the file, or initializes it if it is empty. It changes the number of slots if that is another one.
func (o *opened) load(slots int) error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		o.slots = make([]stored, slots)
		return o.writeHeader(slots)
	}
	found, err := o.readHeader()
	if err != nil {
		return err
	}
	o.slots = make([]stored, found)
	for slot := range found {
		b := new(block)
		if err := o.read(slot, b); err != nil {
			return err
		}
		switch number := b.number(); {
		case !b.unseal(), number > 0 && (number-1)%uint64(found) != uint64(slot):
			return &damagedError{fmt.Sprintf("block %d", slot+1)}
		case number > 0:
			o.slots[slot] = stored{number, b.span}
			if o.newest == nil || number > o.newest.number() {
				o.newest = b
			}
		}
	}
	if found != slots {
		return o.resize(slots)
	}
	return nil
}

func (o *opened) writeHeader(slots int) error {
	header := make([]byte, blockSize)
	binary.LittleEndian.PutUint32(header[copy(header, magic):], uint32(slots))
	_, err := o.f.WriteAt(header, 0)
	return err
}

// maxSlots is the largest number of slots that a file can have: 16 GiB.
const maxSlots = 4 << 20

func (o *opened) readHeader() (slots int, err error) {
	header := make([]byte, len(magic)+4)
	if _, err := o.f.ReadAt(header, 0); err != nil && err != io.EOF {
		return 0, err
	}
	slots = int(binary.LittleEndian.Uint32(header[len(magic):]))
	if string(header[:len(magic)]) != magic || slots < 1 || slots > maxSlots {
		return 0, &damagedError{"it does not begin as a file of outcomes"}
	}
	return slots, nil
}

func (f *file) read(slot int, b *block) error {
	n, err := f.f.ReadAt(b.data[:], int64(1+slot)*blockSize)
	if err == io.EOF { // slots at the end are not written yet
		clear(b.data[n:])
		return nil
	}
	return err
}

func (f *file) write(slot int, b *block) error {
	_, err := f.f.WriteAt(b.data[:], int64(1+slot)*blockSize)
	return err
}

func (f *file) close() error { return f.f.Close() }
