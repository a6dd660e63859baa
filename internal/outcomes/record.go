package outcomes

import (
	"encoding/binary"
	"time"

	"cbproxy/internal/events"
)

// recordSize is the size in bytes of a record, which is one call.
//
//	word 0: bits 0-56 the time in ticks since 1970; bits 57-59 the result; bits 60-63 the type of the failure
//	word 1: bits 0-47 the duration in ticks; bits 48-63 the status
//
// The result and the type are their codes.
const recordSize = 16

const (
	timeBits     = 57 // until the year 2255
	resultBits   = 3
	durationBits = 48 // more than half a year

	// ticksPerMicrosecond is the resolution. Calls are simulated by their times, so the order of an end and of the next call matters.
	ticksPerMicrosecond = 16
)

// ticks returns a time in ticks since 1970. It is limited to what a record can have.
func ticks(t time.Time) int64 {
	us := min(max(t.UnixMicro(), 0), (1<<timeBits-1)/ticksPerMicrosecond-1)
	return us*ticksPerMicrosecond + roundTicks(int64(t.Nanosecond()%1000))
}

// roundTicks returns the number of ticks that is next to a number of nanoseconds.
func roundTicks(ns int64) int64 { return (ns*ticksPerMicrosecond + 500) / 1000 }

// timeAt is the inverse of ticks.
func timeAt(ticks int64) time.Time {
	return time.UnixMicro(ticks / ticksPerMicrosecond).Add(durationOf(ticks % ticksPerMicrosecond)).UTC()
}

// durationOf returns a number of ticks as a duration.
func durationOf(ticks int64) time.Duration {
	return time.Duration(ticks)/ticksPerMicrosecond*time.Microsecond + time.Duration(ticks%ticksPerMicrosecond)*time.Microsecond/ticksPerMicrosecond
}

// encode writes a call to a record.
func encode(record []byte, c *events.Call) {
	took := roundTicks(min(max(int64(c.Duration), 0), 1<<50)) // 1<<50 ns are 13 days
	if took == 0 && c.Duration > 0 {
		took = 1 // not a call without a duration
	}
	binary.LittleEndian.PutUint64(record, uint64(ticks(c.Time))|
		uint64(c.Result.Code())<<timeBits|uint64(c.ErrorType.Code())<<(timeBits+resultBits))
	binary.LittleEndian.PutUint64(record[8:], uint64(took)|uint64(uint16(c.Status))<<durationBits)
}

// decode returns the call in a record.
func decode(record []byte) events.Call {
	first, second := binary.LittleEndian.Uint64(record), binary.LittleEndian.Uint64(record[8:])
	return events.Call{
		Time:      timeAt(ticksOf(record)),
		Result:    events.ResultOf(uint8(first >> timeBits & (1<<resultBits - 1))),
		ErrorType: events.ErrorTypeOf(uint8(first >> (timeBits + resultBits))),
		Status:    int(second >> durationBits),
		Duration:  durationOf(int64(second & (1<<durationBits - 1))),
	}
}

// ticksOf returns the time of the call in a record, in ticks since 1970.
func ticksOf(record []byte) int64 {
	return int64(binary.LittleEndian.Uint64(record) & (1<<timeBits - 1))
}
