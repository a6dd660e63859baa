package stream

import (
	"strings"
	"testing"
)

func TestFormatOf(t *testing.T) {
	for contentType, want := range map[string]Format{
		"text/event-stream": Events, "Text/Event-Stream; charset=utf-8": Events, "text/event-stream ;x": Events,
		"application/x-ndjson": Lines, "application/jsonl; charset=utf-8": Lines,
		"text/event-streams": Bytes, "application/json": Bytes, "application/grpc": Bytes, "": Bytes, ";": Bytes,
	} {
		if got := FormatOf(contentType, false); got != want {
			t.Errorf("%q: %v, want %v", contentType, got, want)
		}
		if got := FormatOf(contentType, true); got != Bytes {
			t.Errorf("%q, encoded: %v", contentType, got)
		}
	}
}

// TestContent counts the content of streams of each format.
func TestContent(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		format Format
		text   string
		total  int64
		begun  bool
	}{
		{Bytes, "", 0, false},
		{Bytes, "\n", 1, true},
		{Bytes, ": x\n\n", 5, true},

		{Lines, "\n", 0, true},
		{Lines, " \t\r\n\n  \r", 0, true},
		{Lines, "{}\n", 2, true},
		{Lines, "\r\n  {\"a b\": 1} \r\n\n1", 12, true},

		{Events, "", 0, false},
		{Events, ": comment\n\n", 0, false},
		{Events, ":\r\n\r\n:\r\r:\n\n", 0, false},
		{Events, "data: x\n\n", 1, true},
		{Events, "data: x\r\n\r\n", 1, true},
		{Events, "data: x\r\r", 1, true},
		{Events, "data:x\n\n", 1, true},
		{Events, "data:  x\n\n", 2, true},
		{Events, "data: x", 1, false}, // the event may still get the name ping
		{Events, "data: x\n", 1, false},
		{Events, "data\n\n", 0, false},
		{Events, "data:\n\n", 0, false},
		{Events, "data: \n\n", 0, false},
		{Events, "event: x\n\n", 0, false},
		{Events, "id: 1\nretry: 5\n\n", 0, false},
		{Events, "id: 1\nevent: token\ndata: abc\ndata: de\n\n", 5, true},
		{Events, "datas: x\n\n data: x\n\nDATA: x\n\n", 0, false},
		{Events, "event: ping\ndata: {}\n\n", 0, false},
		{Events, "event:ping\ndata: {}\n\n", 0, false},
		{Events, "data: {}\nevent: ping\n\n", 0, false},
		{Events, "data: {}\nevent: ping", 2, false},
		{Events, "event: ping\nevent: token\ndata: {}\n\n", 2, true},
		{Events, "event: ping\ndata: {}\nevent\n\n", 2, true},
		{Events, "event: ping\ndata: {}\nevent:\n\n", 2, true},
		{Events, "event:  ping\ndata: {}\n\n", 2, true},
		{Events, "event: pings\ndata: {}\n\n", 2, true},
		{Events, "event: Ping\ndata: {}\n\n", 2, true},
		{Events, "event: pingpingping\ndata: {}\n\n", 2, true},
		{Events, "event: ping\ndata: {}\n\ndata: x\n\n", 1, true}, // the name is that of one event
		{Events, ": ping\ndata: x\n\n", 1, true},
		{Events, "\uFEFFdata: x\n\n", 1, true},
		{Events, "\uFEFFevent: ping\ndata: x\n\n", 0, false},
		{Events, "\uFEFF\uFEFFdata: x\n\n", 0, false},
		{Events, "\n\uFEFFdata: x\n\n", 0, false},
		{Events, "\uFEFF\ndata: x\n\n", 1, true},
		{Events, "data: " + long, 1 << 20, true}, // without an end
		{Events, "data: " + long + "\nevent: ping\n\n", 0, true},
		{Events, "event: ping\ndata: " + long, 0, false},
		{Events, "event: ping\ndata: " + long + "\n\n", 0, false},
		{Events, ":" + long, 0, false},
		{Events, long + ": x\n\n", 0, false},
		{Events, long, 0, false},
	} {
		for _, size := range []int{len(c.text), 1, 7} {
			counter := content{format: c.format}
			for rest := []byte(c.text); len(rest) > 0; {
				n := min(max(size, 1), len(rest))
				counter.add(rest[:n])
				rest = rest[n:]
			}
			if got := counter.total(); got != c.total || counter.begun != c.begun {
				t.Errorf("%d, %.40q in pieces of %d: %d bytes, begun %v; want %d, %v", c.format, c.text, size, got, counter.begun, c.total, c.begun)
			}
		}
	}
}

// parsed returns the content of a stream of events, and whether there was a first event, in the simplest way.
func parsed(text string) (total int64, begun bool) {
	text = strings.TrimPrefix(text, "\uFEFF")
	lines := strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
	var data int64
	ping := false
	for i, line := range lines {
		last := i == len(lines)-1 // without its end
		field, value, colon := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && !last:
			if !ping {
				total += data
				begun = begun || data > 0
			}
			data, ping = 0, false
		case field == "data" && colon:
			data += int64(len(value))
			begun = begun || data > maxPing && !ping
		case field == "event" && !last:
			ping = value == "ping"
		}
	}
	if !ping {
		total += data
	}
	return total, begun
}

// FuzzEvents checks that the content of a stream is that of a simple parser, however the stream is split.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		"data: x\n\n", "\uFEFFevent: ping\r\ndata: x\r\n\r\n", "data: a\rdata\r\revent:ping\rdata:b\r\r", "data: {}\nevent: ping\n\n: c\n\ndata: y",
		"event: ping\nevent\ndata:  \n\n", "data:" + strings.Repeat("x", 1100) + "\nevent: ping\n\n", "\xEF\xBBdata: x\n\n", "eventevent: x\n\n\n",
	} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(5))
	}
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		var e eventStream
		for i := 0; i < len(text); {
			n := min(int(size)+1, len(text)-i)
			e.add([]byte(text[i : i+n]))
			i += n
			if total, begun := parsed(text[:i]); !strings.HasSuffix(text[:i], "\xEF") && !strings.HasSuffix(text[:i], "\xEF\xBB") && (e.total() != total || e.begun != begun) {
				t.Fatalf("%q: %d bytes, begun %v; want %d, %v", text[:i], e.total(), e.begun, total, begun)
			}
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	text := []byte(strings.Repeat("data: {\"choices\":[{\"delta\":{\"content\":\" the\"},\"index\":0}]}\n\n", 250))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var e eventStream
		e.add(text)
	}
}
