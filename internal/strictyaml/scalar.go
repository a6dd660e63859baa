package strictyaml

import (
	"math"
	"regexp"
	"strconv"
	"time"
)

// The accepted patterns are narrower than those of YAML and Go: numbers that parsers read differently
// (010, 1e3, 0x10, .5, 1_000) are rejected.
var (
	plainInt        = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	FloatPattern    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	smallFloat      = regexp.MustCompile(`^[0-9](\.[0-9]+)?[eE]-[0-9]{1,3}$`) // see Rules.parseFloat
	DurationPattern = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?(ns|us|µs|μs|ms|s|m|h)([0-9]+(\.[0-9]+)?(ns|us|µs|μs|ms|s|m|h))*$`)
	SizePattern     = regexp.MustCompile(`^(-?(?:0|[1-9][0-9]*))(B|KiB|MiB|GiB)?$`)
	sizeMisspelt    = regexp.MustCompile(`^(0|[1-9][0-9]*) ?([kKmMgG])i?[bB]?$`)
)

const (
	wantBool     = "must be true or false"
	wantInt      = "must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes)"
	wantFloat    = "must be a number in plain digits (no leading zeros, exponent or quotes)"
	wantDuration = "must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5"
	wantSize     = "must be a size such as 64KiB or 1MiB, or a number of bytes"
	wantString   = "must be text"
	wantList     = "must be a list"
	WantMapping  = "must be a mapping"
)

// The parse functions return as want what an invalid text must be, "" if it is valid.

func parseBool(text string) (value bool, want string) {
	if text != "true" && text != "false" {
		return false, wantBool
	}
	return text == "true", ""
}

func parseInt(text string) (value int64, want string) {
	if !plainInt.MatchString(text) {
		return 0, wantInt
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, "must be a whole number of at most 64 bits"
	}
	return value, ""
}

func parseFloat(text string) (value float64, want string) {
	if !FloatPattern.MatchString(text) {
		return 0, wantFloat
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, "must be a smaller number"
	}
	return value, ""
}

// ParseDuration parses a duration such as 1m30s, or a number of seconds. want states what an invalid
// text must be.
func ParseDuration(text string) (value time.Duration, want string) {
	switch {
	case FloatPattern.MatchString(text):
		text += "s"
	case !DurationPattern.MatchString(text):
		return 0, wantDuration
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		return 0, "must be a duration of at most 292 years"
	}
	return value, ""
}

var sizeUnits = map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// ParseSize parses a size such as 64KiB, or a number of bytes. want states what an invalid text must be.
func ParseSize(text string) (value Size, want string) {
	m := SizePattern.FindStringSubmatch(text)
	if m == nil {
		if m := sizeMisspelt.FindStringSubmatch(text); m != nil {
			return 0, wantSize + " (write " + m[1] + map[byte]string{'k': "KiB", 'm': "MiB", 'g': "GiB"}[m[2][0]|0x20] + ")"
		}
		return 0, wantSize
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := sizeUnits[m[2]]
	if err != nil || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, "must be a size of fewer than 8 EiB"
	}
	return Size(n * unit), ""
}
