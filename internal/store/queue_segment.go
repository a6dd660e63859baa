package store

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
)

// Names within a segment's file.
var (
	recordBucket = []byte("queue_records") // a bucket a service, the numbers are its keys
	noteBucket   = []byte("queue_notes")   // likewise
	countBucket  = []byte("queue_counts")  // how many records there are, by service
	nextKey      = []byte("queue_next")    // in metaBucket: the first number that was never given
	originKey    = []byte("queue_origin")  // likewise: a name that is this file's alone
)

// segment is one file of a Queue.
type segment struct {
	db      *bolt.DB
	path    string // "" in memory
	first   uint64 // the first number it may hold
	commits *atomic.Uint64
	drained func(*segment) // told when a sealed segment is empty
	bytes   int64          // what was put in; guarded by the Queue's lock

	mu      sync.Mutex // guards what follows
	waiting []*change  // in the order in which they are to be made
	awaited bool       // somebody waits for one of them
	ended   bool       // nothing more will come
	gone    bool       // because nothing is left, and the file with it
	sealed  bool       // nothing more will be added
	counts  map[string]int
	next    uint64
	origin  string          // a name that is this file's alone
	adding  map[string]int  // records that are about to be added, by service
	visible uint64          // records above this are not to be seen yet
	hidden  map[uint64]bool // those that nobody waits for any more, and that are about to be removed

	wake chan struct{} // holds a token while there may be something to do
}

// segmentMapped is how much address space a segment has from the start: one that outgrows it
// must wait for its readers.
const (
	segmentMapped = 2 * segmentBytes
	segmentGrowth = 4 << 20
)

// openSegment opens a file that is there, or a new one whose first number is next. Without a path
// it is in memory.
func openSegment(path string, next uint64) (s *segment, err error) {
	options := &bolt.Options{Timeout: lockPatience, InitialMmapSize: segmentMapped, FreelistType: bolt.FreelistMapType}
	if path == "" {
		options.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return memoryFile() }
		options.NoSync, options.NoGrowSync = true, true
	} else if err := inspectSegment(path); err != nil {
		return nil, err
	}
	s = &segment{path: path, next: next, wake: make(chan struct{}, 1), counts: map[string]int{}, adding: map[string]int{}, hidden: map[uint64]bool{}}
	err = guarded(func() (err error) {
		s.db, err = bolt.Open(path, 0o600, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.db.AllocSize = segmentGrowth
	err = guarded(func() error { return s.db.Update(s.prepare) })
	if info, statErr := os.Stat(path); statErr == nil {
		s.bytes = info.Size()
	}
	if err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

// inspectSegment looks for damage in a file that nobody has opened yet. It maps the file, so
// that a long backlog takes no memory.
func inspectSegment(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return errEmptyFile
	}
	content, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	defer func() { _ = syscall.Munmap(content) }()
	return guarded(func() error { return verify(content) })
}

// prepare makes the buckets of a new file, and reads what is kept of an old one.
func (s *segment) prepare(tx *bolt.Tx) error {
	if err := recognize(tx); err != nil {
		return err
	}
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if err := meta.Put(formatKey, format); err != nil {
		return err
	}
	for _, name := range [][]byte{recordBucket, noteBucket, countBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if kept := meta.Get(nextKey); len(kept) == 8 {
		s.next = binary.BigEndian.Uint64(kept)
	} else if err := meta.Put(nextKey, keyOf(s.next)); err != nil {
		return err
	}
	if meta.Get(originKey) == nil {
		if err := meta.Put(originKey, []byte(rand.Text())); err != nil {
			return err
		}
	}
	s.origin = string(meta.Get(originKey))
	s.first, s.visible = s.next, s.next-1
	cursor := tx.Bucket(countBucket).Cursor()
	for name, n := cursor.First(); name != nil; name, n = cursor.Next() {
		if len(n) == 8 {
			s.counts[string(name)] = int(binary.BigEndian.Uint64(n))
		}
		if b := tx.Bucket(recordBucket).Bucket(name); b != nil {
			if key, _ := b.Cursor().First(); len(key) == 8 {
				s.first = min(s.first, binary.BigEndian.Uint64(key))
			}
		}
	}
	return nil
}

// rename gives the segment another name of its own.
func (s *segment) rename() error {
	s.origin = rand.Text()
	return guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(originKey, []byte(s.origin)) })
	})
}

func (s *segment) count(service string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[service]
}

func (s *segment) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totalLocked()
}

func (s *segment) totalLocked() (n int) {
	for _, m := range s.counts {
		n += m
	}
	return n
}

func (s *segment) services() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(s.counts))
	return slices.DeleteFunc(names, func(name string) bool { return s.counts[name] == 0 })
}

// read is Queue.Read. last tells that nothing of a later segment may be read on: there is no room
// for it, or something is about to be added before it.
func (s *segment) read(service string, after uint64, limit, maxBytes int, atLeastOne bool) (records []Record, last bool, err error) {
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
		notes, cursor := tx.Bucket(noteBucket).Bucket([]byte(service)), b.Cursor()
		for key, payload := cursor.Seek(keyOf(after + 1)); key != nil; key, payload = cursor.Next() {
			seq := binary.BigEndian.Uint64(key)
			if seq > visible {
				return nil
			}
			if hidden[seq] {
				continue
			}
			maxBytes -= len(payload)
			if last = len(records) == limit || maxBytes < 0 && (len(records) > 0 || !atLeastOne); last {
				return nil
			}
			records = append(records, record(seq, payload, notes))
		}
		return nil
	})
	return records, last || adding, err
}

func (s *segment) get(service string, seq uint64) (r Record, found bool, err error) {
	s.mu.Lock()
	seen := seq <= s.visible && !s.hidden[seq]
	s.mu.Unlock()
	if !seen {
		return r, false, nil
	}
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordBucket).Bucket([]byte(service))
		if b == nil {
			return nil
		}
		if payload := b.Get(keyOf(seq)); payload != nil {
			r, found = record(seq, payload, tx.Bucket(noteBucket).Bucket([]byte(service))), true
		}
		return nil
	})
	return r, found, err
}

func (s *segment) has(service string, seq uint64) (found bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(recordBucket).Bucket([]byte(service))
		found = b != nil && b.Get(keyOf(seq)) != nil
		return nil
	})
	return found, err
}

// record copies what is valid within a transaction only.
func record(seq uint64, payload []byte, notes *bolt.Bucket) Record {
	r := Record{Seq: seq, Payload: slices.Clone(payload)}
	if notes != nil {
		r.Note = slices.Clone(notes.Get(keyOf(seq)))
	}
	return r
}

// view reads. A file that is closed meanwhile was empty.
func (s *segment) view(do func(*bolt.Tx) error) error {
	err := guarded(func() error { return s.db.View(do) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil
	}
	return err
}

func keyOf(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// discard lets go of a segment that is empty. Its writer must have ended, or not know of it.
func (s *segment) discard() {
	s.stop()
	_ = s.db.Close()
	if s.path != "" {
		_ = os.Remove(s.path) // one that stays is removed at the next start
	}
}
