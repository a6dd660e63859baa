package disk

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"cbproxy/internal/boltfile"
)

// Names within a segment's file. They are part of the file format and can't change, so some differ from the terms in the code.
var (
	recordBucket        = []byte("queue_records") // one bucket per service; the keys are sequence numbers
	deliveryStateBucket = []byte("queue_notes")   // one bucket per service: delivery states by sequence number
	countBucket         = []byte("queue_counts")  // the number of records by service
	nextKey             = []byte("queue_next")    // in the meta bucket: the next sequence number
	storeIDKey          = []byte("queue_origin")  // in the meta bucket: the random, unique name of the file, see segment.storeID
)

// segment is one file of a Store.
type segment struct {
	db      *bolt.DB
	path    string // "" in memory
	first   uint64 // the first sequence number it may contain
	commits *atomic.Uint64
	onEmpty func(*segment) // called by the writer when a sealed segment is empty
	storeID string         // each file has one, but only that of Store.dead is used (Store.ID); does not change after Open
	bytes   atomic.Int64   // approximate size: that of the file when it was opened plus the payloads added since

	wake chan struct{} // holds a token when the writer may have something to do

	mu        sync.Mutex // guards the fields below
	waiting   []*change  // changes to be committed, in order
	hasWaiter bool       // a caller waits for one of them
	stopped   bool       // accepts no more changes
	deleted   bool       // stopped because it is empty, and its file is deleted
	sealed    bool       // receives no more records
	counts    map[string]int
	next      uint64
	adding    map[string]int  // the number of records that are being added, by service
	visible   uint64          // the last committed sequence number; records with greater ones are not returned yet
	hidden    map[uint64]bool // records that were abandoned during their commit and are being removed, see change
}

const (
	// initialMapBytes is the address space that is mapped for a segment at first. Mapping more has to wait for all readers.
	initialMapBytes = 2 * segmentBytes
	// growBytes is by how much a file grows at once.
	growBytes = 4 << 20
)

// openSegment opens a segment file, which inspectSegment has checked. It creates the file if it does not exist, with next as the first
// sequence number. An empty path opens a new segment in memory.
func openSegment(path string, next uint64) (s *segment, err error) {
	options := &bolt.Options{Timeout: boltfile.LockTimeout, InitialMmapSize: initialMapBytes, FreelistType: bolt.FreelistMapType}
	if path == "" {
		options.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return boltfile.MemoryFile() }
		options.NoSync, options.NoGrowSync = true, true
	}
	s = &segment{path: path, next: next, wake: make(chan struct{}, 1), counts: map[string]int{}, adding: map[string]int{}, hidden: map[uint64]bool{}}
	err = boltfile.Guard(func() (err error) {
		s.db, err = bolt.Open(path, 0o600, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.db.AllocSize = growBytes
	err = boltfile.Guard(func() error {
		err := s.db.View(s.load)
		if errors.Is(err, errIncomplete) { // not otherwise, because a full disk must not prevent the start
			if err = s.db.Update(s.prepare); err == nil {
				err = s.db.View(s.load)
			}
		}
		return err
	})
	if info, statErr := os.Stat(path); statErr == nil {
		s.bytes.Store(info.Size())
	}
	if err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

// inspectSegment checks a file for damage before it is opened. It maps the file, so that a long backlog takes no memory.
func inspectSegment(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return boltfile.ErrEmpty
	}
	content, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	defer func() { _ = syscall.Munmap(content) }()
	return boltfile.Guard(func() error { return boltfile.Verify(content) })
}

// prepare creates the buckets and values that are missing.
func (s *segment) prepare(tx *bolt.Tx) error {
	meta, err := boltfile.Prepare(tx, recordBucket, deliveryStateBucket, countBucket)
	if err != nil {
		return err
	}
	if len(meta.Get(nextKey)) != 8 {
		if err := meta.Put(nextKey, keyOf(s.next)); err != nil {
			return err
		}
	}
	if meta.Get(storeIDKey) == nil {
		return meta.Put(storeIDKey, []byte(rand.Text()))
	}
	return nil
}

// errIncomplete is the error of a file that prepare must complete.
var errIncomplete = errors.New("the file is incomplete")

// load reads the totals of a file.
func (s *segment) load(tx *bolt.Tx) error {
	if err := boltfile.CheckFormat(tx); err != nil {
		return err
	}
	meta, records, counts := tx.Bucket(boltfile.MetaBucket), tx.Bucket(recordBucket), tx.Bucket(countBucket)
	if meta == nil || records == nil || counts == nil || tx.Bucket(deliveryStateBucket) == nil || len(meta.Get(nextKey)) != 8 || meta.Get(storeIDKey) == nil {
		return errIncomplete
	}
	s.next = binary.BigEndian.Uint64(meta.Get(nextKey))
	s.storeID = string(meta.Get(storeIDKey))
	s.first, s.visible = s.next, s.next-1
	cursor := counts.Cursor()
	for name, n := cursor.First(); name != nil; name, n = cursor.Next() {
		if len(n) == 8 {
			s.counts[string(name)] = int(binary.BigEndian.Uint64(n))
		}
		if b := records.Bucket(name); b != nil {
			if key, _ := b.Cursor().First(); len(key) == 8 {
				s.first = min(s.first, binary.BigEndian.Uint64(key))
			}
		}
	}
	return nil
}

// changeStoreID gives the file a new unique name.
func (s *segment) changeStoreID() error {
	s.storeID = rand.Text()
	return boltfile.Guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(boltfile.MetaBucket).Put(storeIDKey, []byte(s.storeID)) })
	})
}

// count returns the number of records of a service.
func (s *segment) count(service string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[service]
}

// totalLocked returns the number of records; mu must be held.
func (s *segment) totalLocked() (n int) {
	for _, m := range s.counts {
		n += m
	}
	return n
}

// services returns the services that have records.
func (s *segment) services() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(s.counts))
	return slices.DeleteFunc(names, func(name string) bool { return s.counts[name] == 0 })
}

// read implements Store.Read for one segment. stop reports that later segments must not be read: a limit is reached, or a record is
// being added to this segment, which precedes those of later ones.
func (s *segment) read(service string, after uint64, limit, maxBytes int, atLeastOne bool) (records []Record, stop bool, err error) {
	s.mu.Lock()
	visible, hidden, adding, empty := s.visible, maps.Clone(s.hidden), s.adding[service] > 0, s.counts[service] == 0
	s.mu.Unlock()
	if empty {
		return nil, adding, nil
	}
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordBucket).Bucket([]byte(service))
		if b == nil {
			return nil
		}
		states, cursor := tx.Bucket(deliveryStateBucket).Bucket([]byte(service)), b.Cursor()
		for key, payload := cursor.Seek(keyOf(after + 1)); key != nil; key, payload = cursor.Next() {
			seq := binary.BigEndian.Uint64(key)
			if seq > visible {
				return nil
			}
			if hidden[seq] {
				continue
			}
			maxBytes -= len(payload)
			if stop = len(records) == limit || maxBytes < 0 && (len(records) > 0 || !atLeastOne); stop {
				return nil
			}
			records = append(records, copyRecord(seq, payload, states))
		}
		return nil
	})
	return records, stop || adding, err
}

// get returns a record.
func (s *segment) get(service string, seq uint64) (r Record, found bool, err error) {
	s.mu.Lock()
	visible := seq <= s.visible && !s.hidden[seq]
	s.mu.Unlock()
	if !visible {
		return r, false, nil
	}
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordBucket).Bucket([]byte(service))
		if b == nil {
			return nil
		}
		if payload := b.Get(keyOf(seq)); payload != nil {
			r, found = copyRecord(seq, payload, tx.Bucket(deliveryStateBucket).Bucket([]byte(service))), true
		}
		return nil
	})
	return r, found, err
}

// has reports whether there is a record.
func (s *segment) has(service string, seq uint64) (found bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordBucket).Bucket([]byte(service))
		found = b != nil && b.Get(keyOf(seq)) != nil
		return nil
	})
	return found, err
}

// copyRecord returns a record that is valid after the transaction, too.
func copyRecord(seq uint64, payload []byte, states *bolt.Bucket) Record {
	r := Record{Seq: seq, Payload: slices.Clone(payload)}
	if states != nil {
		r.DeliveryState = slices.Clone(states.Get(keyOf(seq)))
	}
	return r
}

// view runs a read-only transaction. It does not call do and returns nil if the file was closed meanwhile: the segment is empty, or the
// Store is closed.
func (s *segment) view(do func(*bolt.Tx) error) error {
	err := boltfile.Guard(func() error { return s.db.View(do) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil
	}
	return err
}

// keyOf returns the key of a sequence number.
func keyOf(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// discard closes an empty segment and deletes its file. Its writer must not use the segment any more.
func (s *segment) discard() {
	s.stop()
	_ = s.db.Close()
	if s.path != "" {
		_ = os.Remove(s.path) // on failure Open removes it at the next start
	}
}
