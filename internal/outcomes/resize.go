package outcomes

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// resize gives the file another number of slots. It keeps the newest blocks. The file on the disk is the old or the new one whenever the
// process ends.
func (o *opened) resize(slots int) error {
	f, err := os.OpenFile(o.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) // #nosec G304 -- a path of the configuration
	if err != nil {
		return err
	}
	next := &opened{file: file{f, o.path}, slots: make([]stored, slots), newest: o.newest}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = next.copyFrom(o)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), o.path)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return err
	}
	_ = o.f.Close()
	*o = *next
	return nil
}

// copyFrom writes the newest blocks of another file, as many as there are slots.
func (o *opened) copyFrom(old *opened) error {
	if err := o.writeHeader(len(o.slots)); err != nil {
		return err
	}
	var numbers []uint64
	for _, s := range old.slots {
		if s.number > 0 {
			numbers = append(numbers, s.number)
		}
	}
	slices.Sort(numbers)
	for _, number := range numbers[max(0, len(numbers)-len(o.slots)):] {
		from, to := int((number-1)%uint64(len(old.slots))), int((number-1)%uint64(len(o.slots)))
		b := new(block)
		if err := old.read(from, b); err != nil {
			return err
		}
		if err := o.write(to, b); err != nil {
			return err
		}
		o.slots[to] = old.slots[from]
	}
	return nil
}
