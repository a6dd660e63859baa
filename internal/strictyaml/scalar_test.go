package strictyaml_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"cbproxy/internal/strictyaml"
)

// Scalars that YAML parsers read differently are rejected, and none is converted to another type.
func TestScalars(t *testing.T) {
	const (
		wantText  = "must be text"
		wantBool  = "must be true or false"
		wantInt   = "must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes)"
		wantFloat = "must be a number in plain digits (no leading zeros, exponent or quotes)"
	)
	for _, c := range []struct {
		key, text string
		value     any    // the decoded value if the text is valid
		want      string // what it must be, "" if it is valid
	}{
		{"enabled", "true", true, ""},
		{"enabled", "false", false, ""},
		{"enabled", "on", nil, wantBool},
		{"enabled", "yes", nil, wantBool},
		{"enabled", "True", nil, wantBool},
		{"enabled", "1", nil, wantBool},
		{"enabled", "null", nil, wantBool},
		{"enabled", `"true"`, nil, wantBool + " without quotes"},

		{"total", "0", int64(0), ""},
		{"total", "-17", int64(-17), ""},
		{"total", "9223372036854775807", int64(9223372036854775807), ""},
		{"total", "9223372036854775808", nil, "must be a whole number of at most 64 bits"},
		{"total", "010", nil, wantInt},
		{"total", "0o10", nil, wantInt},
		{"total", "0x10", nil, wantInt},
		{"total", "1e3", nil, wantInt},
		{"total", "1_000", nil, wantInt},
		{"total", "+1", nil, wantInt},
		{"total", "1.0", nil, wantInt},
		{"total", `"1"`, nil, wantInt},
		{"total", "~", nil, wantInt},

		{"ratio", "1", 1.0, ""},
		{"ratio", "0.25", 0.25, ""},
		{"ratio", "00.5", nil, wantFloat},
		{"ratio", "1e-1", nil, wantFloat},
		{"ratio", ".5", nil, wantFloat},
		{"ratio", ".inf", nil, wantFloat},
		{"ratio", ".nan", nil, wantFloat},
		{"ratio", "'0.5'", nil, wantFloat},
		{"ratio", "1" + fmt.Sprintf("%0400d", 0), nil, "must be a smaller number"},

		{"chance", "1e-8", 1e-8, ""},
		{"chance", "2.5E-08", 2.5e-8, ""},
		{"chance", "0.001", 0.001, ""},
		{"chance", "1e-30", 1e-30, ""},
		{"chance", "1e-31", nil, "must be from 1e-30 to 0.1"},
		{"chance", "1e-400", nil, "must be from 1e-30 to 0.1"},
		{"chance", "0", nil, "must be from 1e-30 to 0.1"},
		{"chance", "1e8", nil, wantFloat},
		{"chance", "10e-8", nil, wantFloat},
		{"chance", "'1e-8'", nil, wantFloat},

		{"name", "text", "text", ""},
		{"name", "010", "010", ""},
		{"name", "1e3", "1e3", ""},
		{"name", "on", "on", ""},
		{"name", `"null"`, "null", ""},
		{"name", `""`, "", ""},
		{"name", "'true'", "true", ""},
		{"name", "true", nil, wantText},
		{"name", "null", nil, wantText},
		{"name", "", nil, wantText},

		{"delay", "0", time.Duration(0), ""},
		{"limit", `"2KiB"`, strictyaml.Size(2048), ""},
		{"limit", "null", nil, "must be a size such as 64KiB or 1MiB, or a number of bytes"},
		{"wait", "null", nil, "must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5"},
	} {
		t.Run(c.key+" "+c.text[:min(len(c.text), 20)], func(t *testing.T) {
			var d document
			faults := decode(t, c.key+": "+c.text+"\n", nil, &d)
			values := map[string]any{"enabled": d.Enabled, "total": d.Total, "ratio": d.Ratio, "chance": d.Chance, "name": d.Name, "delay": d.Delay, "limit": d.Limit, "wait": d.Wait}
			if c.want == "" {
				if faults != "" || values[c.key] != c.value {
					t.Errorf("got %v, %s", values[c.key], faults)
				}
				return
			}
			prefix := "f.yaml:1:1: " + c.key + ": " + c.want + ", got "
			if len(faults) < len(prefix) || faults[:len(prefix)] != prefix {
				t.Errorf("got  %s\nwant %s", faults, prefix)
			}
		})
	}
}

func TestParseDuration(t *testing.T) {
	const form, long = "must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5", "must be a duration of at most 292 years"
	for text, c := range map[string]struct {
		d    time.Duration
		want string
	}{
		"30": {30 * time.Second, ""}, "0.5": {500 * time.Millisecond, ""}, "-5": {-5 * time.Second, ""}, "1m30s": {90 * time.Second, ""},
		"1.5h": {90 * time.Minute, ""}, "10ms": {10 * time.Millisecond, ""}, "7ns": {7, ""}, "3us": {3 * time.Microsecond, ""}, "3µs": {3 * time.Microsecond, ""},
		"0": {0, ""}, "0s": {0, ""},
		"": {0, form}, "010": {0, form}, "010s": {0, form}, "1e3": {0, form}, ".5s": {0, form}, "+5s": {0, form}, "5 s": {0, form}, "1d": {0, form}, "1h 5m": {0, form},
		"1s30": {0, form}, "inf": {0, form}, "5S": {0, form}, " 5s": {0, form}, "5s\n": {0, form},
		"9999999999h": {0, long}, "99999999999": {0, long},
	} {
		if d, want := strictyaml.ParseDuration(text); d != c.d || want != c.want {
			t.Errorf("%q: got %v, %q, want %v, %q", text, d, want, c.d, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	const form, large = "must be a size such as 64KiB or 1MiB, or a number of bytes", "must be a size of fewer than 8 EiB"
	for text, c := range map[string]struct {
		size strictyaml.Size
		want string
	}{
		"0": {0, ""}, "1": {1, ""}, "17B": {17, ""}, "64KiB": {64 << 10, ""}, "3MiB": {3 << 20, ""}, "2GiB": {2 << 30, ""}, "-1": {-1, ""},
		"8589934591GiB": {8589934591 << 30, ""}, "-8589934592GiB": {math.MinInt64, ""},
		"": {0, form}, "010": {0, form}, "1e3": {0, form}, "1.5MiB": {0, form}, "64 KiB ": {0, form}, "1TiB": {0, form}, "x": {0, form}, "64KiBB": {0, form},
		"64k": {0, form + " (write 64KiB)"}, "1 MB": {0, form + " (write 1MiB)"}, "2gb": {0, form + " (write 2GiB)"}, "64kib": {0, form + " (write 64KiB)"},
		"8589934592GiB": {0, large}, "9223372036854775808": {0, large}, "-8589934593GiB": {0, large},
	} {
		if size, want := strictyaml.ParseSize(text); size != c.size || want != c.want {
			t.Errorf("%q: got %d, %q, want %d, %q", text, size, want, c.size, c.want)
		}
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[strictyaml.Size]string{
		0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1536: "1536", 3 << 20: "3MiB", 5 << 30: "5GiB", 2048 << 30: "2048GiB", -2048: "-2KiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", int64(size), got, want)
		}
		if parsed, fault := strictyaml.ParseSize(want); parsed != size || fault != "" {
			t.Errorf("%s: parsed as %d, %s", want, int64(parsed), fault)
		}
	}
}
