package simulate

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"cbproxy/internal/events"
)

// Record is the recorded calls by service, each in the order of their times.
type Record map[string][]Call

// Sort brings the calls of each service into the order of their times. Calls of the same time keep their order.
func (r Record) Sort() {
	byTime := func(a, b Call) int { return cmp.Compare(a.at, b.at) }
	for _, calls := range r {
		if !slices.IsSortedFunc(calls, byTime) {
			slices.SortStableFunc(calls, byTime)
		}
	}
}

// maxLine is the length in bytes of the longest line that is read.
const maxLine = 1 << 20

// TooManyFaultsError is the error of a record of which more than one in a hundred lines can't be read.
type TooManyFaultsError struct {
	Faults, Lines int
	First         error // the first fault
}

func (e *TooManyFaultsError) Error() string {
	return fmt.Sprintf("%d of %d lines can't be read, more than one in a hundred; the first one is %v", e.Faults, e.Lines, e.First)
}

// Reader reads lines of JSON: those of the admin API's outcomes, and those of the access log.
type Reader struct {
	// Warn is called for each line that can't be read, with its name and number.
	Warn func(error)
	// Progress is called from time to time with the number of lines that have been read. It may be nil.
	Progress func(lines int)

	record  Record
	lines   int
	faults  int
	first   error
	service string
}

// NewReader returns a reader for the calls of a service, or of all services if it is empty.
func NewReader(service string, warn func(error)) *Reader {
	return &Reader{Warn: warn, record: Record{}, service: service}
}

// batch is a number of lines that are parsed together.
type batch struct {
	data  []byte
	first int // the number of the first line
	done  chan parsed
}

// parsed is the content of a batch.
type parsed struct {
	calls  []namedCall
	lines  int
	faults []error
}

type namedCall struct {
	service string
	Call
}

// batchSize is the size in bytes of a batch.
const batchSize = 256 << 10

// Read adds the calls in the lines of input, whose name is used in faults. Lines are parsed on all cores.
func (r *Reader) Read(name string, input io.Reader) error {
	batches := make(chan *batch, runtime.GOMAXPROCS(0))
	ordered := make(chan *batch, 2*runtime.GOMAXPROCS(0))
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for b := range batches {
				b.done <- parseLines(b.data, name, b.first)
			}
		}()
	}
	readErr := make(chan error, 1)
	go func() {
		defer close(ordered)
		defer close(batches)
		readErr <- splitLines(input, func(data []byte, first int) {
			b := &batch{data: data, first: first, done: make(chan parsed, 1)}
			ordered <- b
			batches <- b
		})
	}()
	for b := range ordered {
		r.add(<-b.done)
	}
	if err := <-readErr; err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// add adds the content of a batch.
func (r *Reader) add(p parsed) {
	r.lines += p.lines
	r.faults += len(p.faults)
	for _, err := range p.faults {
		if r.first == nil {
			r.first = err
		}
		r.Warn(err)
	}
	for _, c := range p.calls {
		if r.service == "" || c.service == r.service {
			r.record[c.service] = append(r.record[c.service], c.Call)
		}
	}
	if r.Progress != nil {
		r.Progress(r.lines)
	}
}

// Done returns the calls of all inputs, or a *TooManyFaultsError.
func (r *Reader) Done() (Record, error) {
	if r.faults*100 > r.lines {
		return nil, &TooManyFaultsError{r.faults, r.lines, r.first}
	}
	r.record.Sort()
	return r.record, nil
}

// splitLines passes whole lines of input on, together until they are batchSize long, with the number of the first one.
func splitLines(input io.Reader, yield func(data []byte, first int)) error {
	in := bufio.NewReaderSize(input, batchSize)
	number := 1
	var data []byte
	for {
		chunk, err := in.ReadSlice('\n')
		data = append(data, chunk...)
		switch {
		case err == bufio.ErrBufferFull && len(data) < maxLine+batchSize:
			continue
		case err == bufio.ErrBufferFull:
			return fmt.Errorf("line %d or one of those after it is longer than %d bytes", number, maxLine)
		case err != nil && err != io.EOF:
			return err
		}
		if len(data) >= batchSize || err == io.EOF {
			if len(data) > 0 {
				yield(data, number)
				number += bytes.Count(data, []byte("\n"))
				data = make([]byte, 0, batchSize+1<<10)
			}
			if err == io.EOF {
				return nil
			}
		}
	}
}

func parseLines(data []byte, name string, number int) (p parsed) {
	p.calls = make([]namedCall, 0, bytes.Count(data, []byte("\n")))
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			p.lines++
			c, isCall, err := parseLine(line)
			switch {
			case err != nil:
				p.faults = append(p.faults, fmt.Errorf("%s:%d: %w", name, number, err))
			case isCall:
				p.calls = append(p.calls, c)
			}
		}
		number++
	}
	return p
}

// line has the keys of both formats.
type line struct {
	Time      time.Time        `json:"time"`
	Service   string           `json:"service"`
	Outcome   events.Result    `json:"outcome"`
	Status    int              `json:"status"`
	ErrorType events.ErrorType `json:"error_type"`
	Error     events.ErrorType `json:"error"` // of the access log
	Duration  *float64         `json:"duration_ms"`
	Upstream  *float64         `json:"upstream_ms"` // of the access log
	Method    *string          `json:"method"`      // likewise
	Reason    events.Reason    `json:"reason"`      // likewise
}

// refused is the outcome in the access log of a request that reached no route.
const refused = "refused"

var outcomeNames = func() string {
	names := make([]string, len(events.Results))
	for i, r := range events.Results {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}()

// parseLine returns the call in a line; isCall is false for a line of the access log about a request that asked for no call: to no
// service, or as a test of the fallback.
func parseLine(data []byte) (c namedCall, isCall bool, err error) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return c, false, jsonError(err)
	}
	switch {
	case l.Outcome == refused && l.Service == "", l.Reason == events.ReasonTest:
		return c, false, nil
	case l.Time.IsZero():
		return c, false, errors.New("time is missing")
	case l.Service == "":
		return c, false, errors.New("service is missing")
	case !slices.Contains(events.Results[:], l.Outcome):
		return c, false, fmt.Errorf("outcome must be one of %s, got %q", outcomeNames, l.Outcome)
	}
	took := l.Duration
	if l.Method != nil { // the access log's duration_ms includes the time before and after the call
		took = l.Upstream
	}
	call := events.Call{Time: l.Time, Result: l.Outcome, Status: l.Status, ErrorType: cmp.Or(l.ErrorType, l.Error)}
	if call.Result != events.ResultFailure {
		call.ErrorType = ""
	} else if call.ErrorType != "" && !slices.Contains(events.ErrorTypes[:], call.ErrorType) {
		return c, false, fmt.Errorf("error_type must be that of a failure, got %q", call.ErrorType)
	}
	if call.Status < 0 || call.Status > 999 {
		return c, false, fmt.Errorf("status must be from 0 to 999, got %d", call.Status)
	}
	if took != nil {
		if *took < 0 || *took > float64(maxDuration/time.Millisecond) {
			return c, false, fmt.Errorf("duration_ms must be from 0 to %d, got %v", maxDuration/time.Millisecond, *took)
		}
		call.Duration = time.Duration(math.Round(*took * float64(time.Millisecond)))
	}
	return namedCall{l.Service, NewCall(call)}, true, nil
}

// maxDuration is the longest duration of a call in a record.
const maxDuration = 1000 * time.Hour

// jsonError returns an error of encoding/json in words that do not name Go types.
func jsonError(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return fmt.Errorf("%s must not be a %s", wrongType.Field, wrongType.Value)
	}
	return fmt.Errorf("not a line of JSON: %w", err)
}
