package stream

import (
	"strings"
	"testing"
	"time"
)

// step is a part of a simulated stream: what its reader does.
type step struct {
	read   float64 // seconds of a read that returns text, or of one that does not return
	hangs  bool
	text   string
	write  float64 // seconds before the read, in which the client takes what was read before
	upload float64 // seconds of the read in which the upstream may be waiting for the client
	pause  float64 // seconds of the read in which the process is stopped
}

// run carries out steps, and calls Check at the times that the meter asks for. It returns the first error and its time.
func run(m *Meter, steps ...step) (at time.Duration, err error) {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	now := Clock{}
	for _, s := range steps {
		now.Now += seconds(s.write)
		begin := now
		check, end := m.BeginRead(now), now.Now+seconds(s.read)
		for check > 0 && (s.hangs || now.Now+check < end) {
			// The client's upload and the pause are at the begin of the read.
			now.Now = max(now.Now+check, begin.Now+seconds(s.pause))
			now.ClientWait = begin.ClientWait + min(seconds(s.upload), now.Now-begin.Now)
			now.Paused = begin.Paused + seconds(s.pause)
			if check, err = m.Check(now); err != nil {
				return now.Now, err
			}
			if now.Now > time.Hour {
				return 0, nil
			}
		}
		now.Now, now.ClientWait, now.Paused = end, begin.ClientWait+seconds(s.upload), begin.Paused+seconds(s.pause)
		m.EndRead(now, []byte(s.text))
		if next, err := m.Check(now); next != 0 || err != nil {
			return now.Now, err // nothing is checked between reads
		}
	}
	return 0, nil
}

// repeat returns n times s.
func repeat(n int, s step) (all []step) {
	for range n {
		all = append(all, s)
	}
	return all
}

func join(parts ...[]step) (all []step) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

var hang = []step{{hangs: true}}

// TestLimits has a limit of 30s for the first event, and of 100 bytes a second over 10s.
func TestLimits(t *testing.T) {
	limits := Limits{FirstEvent: 30 * time.Second, MinRate: 100, Window: 10 * time.Second}
	event := func(n int) string { return "data: " + strings.Repeat("x", n) + "\n\n" }
	for name, c := range map[string]struct {
		format Format
		steps  []step
		at     time.Duration // of the error; 0: there is none
		text   string
	}{
		"nothing":                   {Bytes, hang, 30 * time.Second, "no byte in 30s, first_event_timeout is 30s"},
		"comments":                  {Events, repeat(100, step{read: 1, text: ": keep-alive\n\n"}), 30 * time.Second, "no server-sent event with data in 30s, first_event_timeout is 30s"},
		"pings":                     {Events, repeat(100, step{read: 1, text: "event: ping\ndata: {}\n\n"}), 30 * time.Second, "no server-sent event with data in 30s, first_event_timeout is 30s"},
		"first event in time":       {Events, []step{{read: 29.9, text: event(1)}, {read: 9.9, text: ": end\n\n"}}, 0, ""},
		"first event late":          {Events, []step{{read: 30.1, text: event(1)}}, 30 * time.Second, "no server-sent event with data in 30s, first_event_timeout is 30s"},
		"a byte, then nothing":      {Bytes, join([]step{{read: 5, text: "x"}}, hang), 15 * time.Second, "1 bytes in 10s, min_bytes_per_second is 100"},
		"trickle":                   {Bytes, repeat(1000, step{read: 0.1, text: "x"}), 10100 * time.Millisecond, "101 bytes in 10s, min_bytes_per_second is 100"},
		"events trickle":            {Events, repeat(1000, step{read: 1, text: event(50)}), 11 * time.Second, "550 bytes in 10s, min_bytes_per_second is 100"},
		"fast enough":               {Bytes, repeat(1000, step{read: 0.1, text: "0123456789"}), 0, ""},
		"large event without end":   {Events, join([]step{{read: 1, text: "data: "}}, repeat(200, step{read: 1, text: strings.Repeat("x", 100)})), 0, ""},
		"burst, then nothing":       {Bytes, join([]step{{read: 1, text: strings.Repeat("x", 1e6)}}, hang), 21 * time.Second, "0 bytes in 10s, min_bytes_per_second is 100"},
		"crawl within a window":     {Bytes, join(repeat(55, step{read: 0.1, text: strings.Repeat("x", 30)}), hang), 20100 * time.Millisecond, "0 bytes in 10s, min_bytes_per_second is 100"},
		"comments after the begin":  {Events, join([]step{{text: event(1000)}}, repeat(100, step{read: 1, text: ":" + strings.Repeat("x", 1000) + "\n"})), 20 * time.Second, "0 bytes in 10s, min_bytes_per_second is 100"},
		"blank lines":               {Lines, repeat(1000, step{read: 1, text: "\n"}), 0, ""},
		"blank lines after content": {Lines, join([]step{{read: 40, text: "\n"}}), 30 * time.Second, "no byte in 30s, first_event_timeout is 30s"},
		"lines, then blank lines":   {Lines, join(repeat(5, step{read: 1, text: "\n"}), []step{{read: 1, text: "{}\n"}}, repeat(100, step{read: 1, text: "\n"})), 16 * time.Second, "2 bytes in 10s, min_bytes_per_second is 100"},

		// Time that does not count.
		"slow client":                 {Bytes, repeat(1000, step{write: 60, read: 0.01, text: "x"}), 0, ""},
		"slow client, trickle":        {Bytes, repeat(100, step{write: 60, read: 1, text: "x"}), 731 * time.Second, "11 bytes in 10s, min_bytes_per_second is 100"},
		"client uploads":              {Bytes, []step{{text: "x"}, {read: 1000, upload: 995, text: "x"}}, 0, ""},
		"client has uploaded":         {Bytes, join([]step{{text: "x"}, {read: 100, upload: 95, text: "y"}}, hang), 105 * time.Second, "2 bytes in 10s, min_bytes_per_second is 100"},
		"client uploads at first":     {Bytes, []step{{upload: 100, hangs: true}}, 130 * time.Second, "no byte in 30s, first_event_timeout is 30s"},
		"pause":                       {Bytes, []step{{text: "x"}, {read: 5, text: "x"}, {read: 60, pause: 55, text: "x"}}, 0, ""},
		"pause before the first":      {Bytes, []step{{read: 80, pause: 60, text: "x"}}, 0, ""},
		"nothing after a pause":       {Bytes, join([]step{{text: "x"}, {read: 65, pause: 60, text: "x"}}, hang), 70 * time.Second, "1 bytes in 10s, min_bytes_per_second is 100"},
		"ends within its last window": {Bytes, repeat(9, step{read: 1, text: "x"}), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := run(NewMeter(limits, c.format, Clock{}), c.steps...)
			if c.at == 0 {
				if err != nil {
					t.Fatalf("after %v: %v", at, err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if at < c.at-time.Millisecond || at > c.at+c.at/20 {
				t.Errorf("after %v, want %v", at, c.at)
			}
			if err.Error() != c.text {
				t.Errorf("%v, want %s", err, c.text)
			}
		})
	}
}

// FuzzMeter checks that the same bytes at the same times have the same result, in however many reads they arrive.
func FuzzMeter(f *testing.F) {
	f.Add([]byte("\x05data: x\n\n"), uint8(1), uint8(1))
	f.Add([]byte("\x01\n\x20abcdefghijklmnopqrstuvwxyz\x20"), uint8(2), uint8(0))
	f.Fuzz(func(t *testing.T, script []byte, size, format uint8) {
		limits := Limits{FirstEvent: 30 * time.Second, MinRate: 1, Window: 10 * time.Second}
		whole, split := NewMeter(limits, Format(format%3), Clock{}), NewMeter(limits, Format(format%3), Clock{})
		for now := (Clock{}); len(script) > 1; { // seconds of waiting, how much is read
			n := min(1+int(script[1])%8, len(script))
			text := script[1:n]
			a, b := whole.BeginRead(now), split.BeginRead(now)
			now.Now += time.Duration(script[0]%16) * time.Second
			script = script[n:]
			nextA, errA := whole.Check(now)
			nextB, errB := split.Check(now)
			if a != b || nextA != nextB || (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
				t.Fatalf("at %v: %v, %v, %v; in pieces %v, %v, %v", now.Now, a, nextA, errA, b, nextB, errB)
			}
			whole.EndRead(now, text)
			for len(text) > 0 {
				n := min(1+int(size), len(text))
				split.EndRead(now, text[:n])
				if text = text[n:]; len(text) > 0 {
					split.BeginRead(now)
				}
			}
			split.EndRead(now, nil)
		}
	})
}
