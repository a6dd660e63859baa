package accesslog

import "testing"

// BenchmarkLog measures the cost of Log for a request, without the write to the destination.
func BenchmarkLog(b *testing.B) {
	for name, settings := range map[string]Settings{
		"off":     {},
		"sampled": {Enabled: true, Destination: "/dev/null", Format: "json", Sample: 0.01},
		"json":    {Enabled: true, Destination: "/dev/null", Format: "json", Sample: 1},
		"text":    {Enabled: true, Destination: "/dev/null", Format: "text", Sample: 1},
	} {
		b.Run(name, func(b *testing.B) {
			l := New("one", discardLogger())
			apply(b, l, settings)
			defer l.Close()
			a := successRecord()
			b.ReportAllocs()
			for b.Loop() {
				l.Log(a)
			}
		})
	}
}
