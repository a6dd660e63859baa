package outcomes

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

const (
	// blockSize is the size in bytes of a block, which is written and checked as a whole.
	blockSize = 4096
	// blockHeaderSize is the size in bytes of a block's header: its number, the number of its records and a checksum of both and of
	// the records.
	blockHeaderSize = 16
	// blockRecords is the number of records in a full block.
	blockRecords = (blockSize - blockHeaderSize) / recordSize
)

// block is a number of records, in the order in which their calls ended. Blocks are numbered from 1 on.
type block struct {
	data  [blockSize]byte
	count int
	span
}

// span is the times of the first and the last call of a block, in ticks since 1970.
type span struct{ first, last int64 }

// noSpan is the span of a block without calls.
var noSpan = span{math.MaxInt64, math.MinInt64}

func newBlock(number uint64) *block {
	b := &block{span: noSpan}
	binary.LittleEndian.PutUint64(b.data[:], number)
	return b
}

// number returns the number of the block.
func (b *block) number() uint64 { return binary.LittleEndian.Uint64(b.data[:]) }

// record returns the i-th record.
func (b *block) record(i int) []byte {
	start := blockHeaderSize + i*recordSize
	return b.data[start : start+recordSize]
}

// next returns the record to write next. The block must not be full. added must be called next.
func (b *block) next() []byte { return b.record(b.count) }

// added counts the record that was written last.
func (b *block) added() {
	at := ticksOf(b.next())
	b.first, b.last = min(b.first, at), max(b.last, at)
	b.count++
}

// seal completes the header.
func (b *block) seal() {
	binary.LittleEndian.PutUint32(b.data[8:], uint32(b.count))
	binary.LittleEndian.PutUint32(b.data[12:], b.checksum())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b *block) checksum() uint32 {
	sum := crc32.Checksum(b.data[:12], castagnoli)
	return crc32.Update(sum, castagnoli, b.data[blockHeaderSize:blockHeaderSize+b.count*recordSize])
}

// unseal reads the header of data that has been read. It reports false if the block is damaged. A block that was never written has the
// number 0 and no records.
func (b *block) unseal() bool {
	b.count, b.span = int(min(binary.LittleEndian.Uint32(b.data[8:]), blockRecords+1)), noSpan
	if b.count > blockRecords {
		return false
	}
	sum := binary.LittleEndian.Uint32(b.data[12:])
	if b.number() == 0 {
		return b.count == 0 && sum == 0
	}
	if sum != b.checksum() {
		return false
	}
	for i := range b.count {
		at := ticksOf(b.record(i))
		b.first, b.last = min(b.first, at), max(b.last, at)
	}
	return true
}
