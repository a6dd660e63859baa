package simulate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/outcomes"
)

// readText reads a record from text, and returns the faults in it.
func readText(t *testing.T, service, text string) (Record, []string, error) {
	t.Helper()
	var faults []string
	r := NewReader(service, func(err error) { faults = append(faults, err.Error()) })
	if err := r.Read("file", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	record, err := r.Done()
	return record, faults, err
}

func TestReadUnderstandsBothFormats(t *testing.T) {
	record, faults, err := readText(t, "", `{"time":"2026-01-01T00:00:01.5Z","service":"a","outcome":"failure","status":503,"error_type":"status","duration_ms":12.25}

{"time":"2026-01-01T01:00:00+01:00","level":"INFO","msg":"request","instance":"i","service":"a","method":"GET","path":"/x","status":200,"outcome":"success","state":"closed","attempts":1,"duration_ms":80,"upstream_ms":0.05,"client":"127.0.0.1:1"}
{"time":"2026-01-01T00:00:02Z","level":"INFO","msg":"request","service":"b","method":"GET","path":"/x","status":503,"outcome":"rejected","reason":"open","duration_ms":1}
{"time":"2026-01-01T00:00:03Z","level":"INFO","msg":"request","method":"GET","path":"/y","status":404,"outcome":"refused","duration_ms":1}
{"time":"2026-01-01T00:00:03Z","level":"INFO","msg":"request","service":"a","method":"GET","path":"/x","status":200,"outcome":"rejected","fallback":"static","reason":"test","duration_ms":1}
{"time":"2026-01-01T00:00:04Z","service":"a","method":"GET","path":"/x","status":502,"outcome":"failure","error":"reset","attempts":2,"duration_ms":9,"upstream_ms":8}`)
	if err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	want := Record{
		"a": {
			NewCall(events.Call{Time: begin, Result: events.ResultSuccess, Status: 200, Duration: 50 * time.Microsecond}),
			NewCall(events.Call{Time: begin.Add(1500 * time.Millisecond), Result: events.ResultFailure, Status: 503, ErrorType: events.ErrorStatus, Duration: 12250 * time.Microsecond}),
			NewCall(events.Call{Time: begin.Add(4 * time.Second), Result: events.ResultFailure, Status: 502, ErrorType: events.ErrorReset, Duration: 8 * time.Millisecond}),
		},
		"b": {NewCall(events.Call{Time: begin.Add(2 * time.Second), Result: events.ResultRejected, Status: 503})},
	}
	if fmt.Sprint(record) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", record, want)
	}
	if first, last := record["a"][0].Time(), record["a"][2].Time(); !first.Equal(begin) || !last.Equal(begin.Add(4*time.Second)) {
		t.Errorf("from %v to %v", first, last)
	}
	if record, _, _ := readText(t, "b", `{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"success"}`); len(record) != 0 {
		t.Errorf("calls of another service: %v", record)
	}
}

// What the proxy writes is what is read.
func TestReadUnderstandsTheLinesOfThisProxy(t *testing.T) {
	var lines []byte
	var want []Call
	for i, kind := range events.ErrorTypes {
		c := events.Call{Time: begin.Add(time.Duration(i) * 1234567 * time.Nanosecond), Result: events.ResultFailure, Status: 100 * i % 1000, ErrorType: kind, Duration: time.Duration(i) * 7654321}
		lines, want = outcomes.AppendLine(lines, `a "quoted" name`, &c), append(want, NewCall(c))
	}
	record, faults, err := readText(t, "", string(lines))
	if err != nil || len(faults) > 0 || !slices.Equal(record[`a "quoted" name`], want) {
		t.Errorf("got %+v, %v, %v, want %+v", record, faults, err, want)
	}
}

func TestReadNamesFaultyLines(t *testing.T) {
	good := `{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"success"}` + "\n"
	for line, want := range map[string]string{
		"x": "file:101: not a line of JSON",
		`{"time":"yesterday","service":"a","outcome":"success"}`:                                   "file:101: not a line of JSON",
		`{"service":"a","outcome":"success"}`:                                                      "file:101: time is missing",
		`{"time":"2026-01-01T00:00:01Z","outcome":"success"}`:                                      "file:101: service is missing",
		`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"good"}`:                           `file:101: outcome must be one of success, failure, rejected, cancelled, got "good"`,
		`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"success","status":"200"}`:         "file:101: status must not be a string",
		`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"success","status":-1}`:            "file:101: status must be from 0 to 999, got -1",
		`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"success","duration_ms":-1}`:       "file:101: duration_ms must be from 0",
		`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"failure","error_type":"unlucky"}`: `file:101: error_type must be that of a failure, got "unlucky"`,
	} {
		record, faults, err := readText(t, "", strings.Repeat(good, 100)+line+"\n"+strings.Repeat(good, 100))
		if err != nil || len(record["a"]) != 200 || len(faults) != 1 || !strings.HasPrefix(faults[0], want) {
			t.Errorf("%s: %d calls, %q, %v", line, len(record["a"]), faults, err)
		}
	}
	var tooMany *TooManyFaultsError
	if _, _, err := readText(t, "", strings.Repeat(good, 100)+"x\ny\n"); !errors.As(err, &tooMany) || tooMany.Faults != 2 || tooMany.Lines != 102 {
		t.Errorf("two faults in 102 lines: %v", err)
	}
	if _, _, err := readText(t, "", ""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// Lines are parsed in batches at the same time, and keep their order and numbers.
func TestReadKeepsTheOrderOfLines(t *testing.T) {
	const n = 20_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"time":"2026-01-01T00:00:00Z","service":"a","outcome":"success","status":%d}`+"\n", i%1000)
		if i%1000 == 999 {
			text.WriteString("{}\n")
		}
	}
	record, faults, err := readText(t, "", text.String())
	if err != nil || len(record["a"]) != n || len(faults) != n/1000 {
		t.Fatalf("%d calls, %d faults, %v", len(record["a"]), len(faults), err)
	}
	for i, c := range record["a"] {
		if int(c.status) != i%1000 {
			t.Fatalf("call %d has the status %d", i, c.status)
		}
	}
	for i, fault := range faults {
		if want := fmt.Sprintf("file:%d: ", 1001*(i+1)); !strings.HasPrefix(fault, want) {
			t.Fatalf("%s, want %s", fault, want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T00:00:01Z","service":"a","outcome":"failure","status":503,"error_type":"status","duration_ms":12.25}`))
	f.Add([]byte(`{"time":"2026-01-01T00:00:01Z","method":"GET","outcome":"refused","upstream_ms":1e300}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, isCall, err := parseLine(data)
		if err == nil && isCall && (c.Result() == "" || c.service == "" || c.took < 0 || c.duration() > maxDuration) {
			t.Errorf("%s: %+v", data, c)
		}
	})
}
