package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// The parts of bbolt's file format (version 2) that refer from one page to another. The file states the size of its pages. Numbers are
// in the byte order of the machine, and every page begins with a header.
const (
	boltMagic, boltVersion = 0xED0CDAED, 2
	pageHeader             = 16 // id 8, flags 2, count 2, overflow 4
	branchPage, leafPage   = 0x01, 0x02
	freelistPage           = 0x10
	elementSize            = 16 // of a branch: pos 4, key size 4, page 8; of a leaf: flags 4, pos 4, key size 4, value size 4
	bucketFlag             = 0x01
	bucketHeader           = 16 // root page 8, sequence 8
	metaChecked            = 56 // bytes of a meta page that its checksum covers
	manyFree               = 0xFFFF
)

var order = binary.NativeEndian

// Verify returns an error if a reference in the content of a bbolt file is damaged. bbolt follows references without checks: it never
// returns from a cycle of them, and a reference beyond the end of the file crashes the process.
func Verify(file []byte) error {
	m, err := newestMeta(file)
	if err != nil {
		return err
	}
	v := verifier{file: file, size: uint64(m.pageSize), pages: m.pages, seen: map[uint64]bool{}}
	if err := v.freelist(m.freelist); err != nil {
		return err
	}
	return v.tree(m.root)
}

// meta is the content of a meta page.
type meta struct {
	pageSize              uint32
	root, freelist, pages uint64
	transaction           uint64
}

// newestMeta returns the newest valid one of the two meta pages, which is the one that bbolt uses.
func newestMeta(file []byte) (best meta, err error) {
	found := false
	offsets := anySecondMeta()
	if m, ok := parseMeta(file, 0); ok {
		best, found, offsets = m, true, []int{int(m.pageSize)}
	}
	for _, at := range offsets {
		m, ok := parseMeta(file, at)
		if ok && (!found || m.transaction > best.transaction) {
			best, found = m, true
		}
	}
	switch {
	case !found:
		return best, errors.New("not a bbolt database")
	case best.pageSize < 512 || best.pageSize > 1<<20 || best.pages < 3:
		return best, errors.New("damaged: its meta page is invalid")
	case uint64(len(file))/uint64(best.pageSize) < best.pages:
		return best, fmt.Errorf("truncated: %d bytes of %d pages", len(file), best.pages)
	}
	return best, nil
}

// anySecondMeta returns the possible offsets of the second meta page, which is the size of a page. They are needed only if the first one
// is damaged. Otherwise they must not be read: they may be in a part of the file that was never written, and on a full tmpfs reading that
// from a mapped file is a fault.
func anySecondMeta() (offsets []int) {
	for size := 1024; size <= 1<<16; size *= 2 {
		offsets = append(offsets, size)
	}
	return offsets
}

func parseMeta(file []byte, page int) (m meta, ok bool) {
	at := page + pageHeader
	if at+metaChecked+8 > len(file) {
		return m, false
	}
	b := file[at:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaChecked])
	if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[metaChecked:]) != sum.Sum64() {
		return m, false
	}
	return meta{
		pageSize: order.Uint32(b[8:]), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), transaction: order.Uint64(b[48:]),
	}, true
}

// verifier follows the references between pages. Each page may be referred to once.
type verifier struct {
	file  []byte
	size  uint64
	pages uint64
	seen  map[uint64]bool // pages that were visited
}

// page returns a page with its overflow pages.
func (v *verifier) page(id uint64) ([]byte, error) {
	if id < 2 || id >= v.pages {
		return nil, fmt.Errorf("damaged: it refers to page %d of %d", id, v.pages)
	}
	b := v.file[id*v.size:]
	overflow := uint64(order.Uint32(b[12:]))
	if order.Uint64(b) != id || overflow >= v.pages-id {
		return nil, fmt.Errorf("damaged: page %d has the header of another page", id)
	}
	for i := id; i <= id+overflow; i++ {
		if v.seen[i] {
			return nil, fmt.Errorf("damaged: page %d is referred to twice", i)
		}
		v.seen[i] = true
	}
	return b[:(overflow+1)*v.size], nil
}

func (v *verifier) freelist(id uint64) error {
	page, err := v.page(id)
	if err != nil {
		return err
	}
	count, at := uint64(order.Uint16(page[10:])), uint64(pageHeader)
	if count == manyFree {
		count, at = order.Uint64(page[at:]), at+8
	}
	if order.Uint16(page[8:]) != freelistPage || count > (uint64(len(page))-at)/8 {
		return errors.New("damaged: its list of free pages is invalid")
	}
	for i := range count {
		if free := order.Uint64(page[at+8*i:]); free < 2 || free >= v.pages {
			return fmt.Errorf("damaged: its list of free pages has page %d of %d", free, v.pages)
		}
	}
	return nil
}

func (v *verifier) tree(id uint64) error {
	page, err := v.page(id)
	if err != nil {
		return err
	}
	if order.Uint16(page[8:]) != branchPage {
		return v.leaf(id, page)
	}
	count := int(order.Uint16(page[10:]))
	if count == 0 || pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("damaged: page %d has %d branches", id, count)
	}
	for at := pageHeader; at < pageHeader+count*elementSize; at += elementSize {
		key := uint64(at) + uint64(order.Uint32(page[at:])) + uint64(order.Uint32(page[at+4:]))
		if key > uint64(len(page)) {
			return fmt.Errorf("damaged: page %d has a key beyond its end", id)
		}
		if err := v.tree(order.Uint64(page[at+8:])); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks a leaf page, or the inline page within the value of a small bucket.
func (v *verifier) leaf(id uint64, page []byte) error {
	count := int(order.Uint16(page[10:]))
	if order.Uint16(page[8:]) != leafPage || pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("damaged: page %d is not a leaf with %d values", id, count)
	}
	for at := pageHeader; at < pageHeader+count*elementSize; at += elementSize {
		value := uint64(at) + uint64(order.Uint32(page[at+4:])) + uint64(order.Uint32(page[at+8:]))
		size := uint64(order.Uint32(page[at+12:]))
		if value+size > uint64(len(page)) {
			return fmt.Errorf("damaged: page %d has a value beyond its end", id)
		}
		if order.Uint32(page[at:])&bucketFlag == 0 {
			continue
		}
		if err := v.bucket(id, page[value:value+size]); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) bucket(id uint64, value []byte) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("damaged: page %d has a truncated bucket", id)
	}
	if root := order.Uint64(value); root != 0 {
		return v.tree(root)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return fmt.Errorf("damaged: page %d has a truncated bucket", id)
	}
	return v.leaf(id, inline)
}
