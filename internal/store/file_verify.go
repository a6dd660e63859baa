package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// The parts of bbolt's file format (version 2) that lead from one page to another. Its pages are
// of the size that the file says, in the byte order of the machine, and begin with a header.
const (
	boltMagic, boltVersion = 0xED0CDAED, 2
	pageHeader             = 16 // id 8, flags 2, count 2, overflow 4
	branchPage, leafPage   = 0x01, 0x02
	freelistPage           = 0x10
	elementSize            = 16 // of a branch: pos 4, key size 4, page 8; of a leaf: flags 4, pos 4, key size 4, value size 4
	bucketFlag             = 0x01
	bucketHeader           = 16 // root page 8, sequence 8
	metaChecked            = 56 // bytes of a meta page that its checksum is of
	manyFree               = 0xFFFF
)

var order = binary.NativeEndian

// verify returns what is wrong with the references in a bbolt file. bbolt follows them without
// looking: where damage makes a circle of them, it would go round for ever, and where they
// lead out of the file, it would end the process.
func verify(file []byte) error {
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

// meta is what a file's head says.
type meta struct {
	pageSize              uint32
	root, freelist, pages uint64
	transaction           uint64
}

// newestMeta returns the head that bbolt goes by: of the two there are, the newest valid one.
func newestMeta(file []byte) (best meta, err error) {
	found := false
	for _, at := range metaPlaces(file) {
		m, ok := parseMeta(file, at)
		if ok && (!found || m.transaction > best.transaction) {
			best, found = m, true
		}
	}
	switch {
	case !found:
		return best, errors.New("not a bbolt database")
	case best.pageSize < 512 || best.pageSize > 1<<20 || best.pages < 3:
		return best, errors.New("damaged: its head makes no sense")
	case uint64(len(file))/uint64(best.pageSize) < best.pages:
		return best, fmt.Errorf("truncated: %d bytes of %d pages", len(file), best.pages)
	}
	return best, nil
}

// metaPlaces returns where heads may begin: the first page, and the second one, whose place
// depends on the size of a page, which the first may not tell any more.
func metaPlaces(file []byte) []int {
	places := []int{0}
	for size := 1024; size <= 1<<16; size *= 2 {
		places = append(places, size)
	}
	return places
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

// verifier walks through the pages, each of which may be met once.
type verifier struct {
	file  []byte
	size  uint64
	pages uint64
	seen  map[uint64]bool
}

// page returns a page with those that continue it.
func (v *verifier) page(id uint64) ([]byte, error) {
	if id < 2 || id >= v.pages {
		return nil, fmt.Errorf("damaged: it refers to page %d of %d", id, v.pages)
	}
	b := v.file[id*v.size:]
	overflow := uint64(order.Uint32(b[12:]))
	if order.Uint64(b) != id || overflow >= v.pages-id {
		return nil, fmt.Errorf("damaged: page %d has another's head", id)
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
		return errors.New("damaged: its list of free pages makes no sense")
	}
	for i := range count {
		if free := order.Uint64(page[at+8*i:]); free < 2 || free >= v.pages {
			return fmt.Errorf("damaged: page %d of %d is free", free, v.pages)
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

// leaf looks at a page of values, or at the one that a small bucket has within its own value.
func (v *verifier) leaf(id uint64, page []byte) error {
	count := int(order.Uint16(page[10:]))
	if order.Uint16(page[8:]) != leafPage || pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("damaged: page %d is no leaf of %d values", id, count)
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
		return fmt.Errorf("damaged: page %d has half a bucket", id)
	}
	if root := order.Uint64(value); root != 0 {
		return v.tree(root)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return fmt.Errorf("damaged: page %d has half a bucket", id)
	}
	return v.leaf(id, inline)
}
