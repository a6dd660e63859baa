package grpc

import (
	"math"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"
)

var timeoutForm = regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)

func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{"1S", "100m", "99999999H", "0n", "00000001u", "123456789S", "-1S", "+1S", "1s", "S", "", "1.5S", "1_0S", " 1S", "1S "} {
		f.Add(seed)
	}
	seconds := map[byte]int64{'H': 3600e9, 'M': 60e9, 'S': 1e9, 'm': 1e6, 'u': 1e3, 'n': 1}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseTimeout(s)
		if ok != timeoutForm.MatchString(s) {
			t.Fatalf("%q: accepted %v", s, ok)
		}
		if !ok {
			return
		}
		n, _ := strconv.ParseInt(s[:len(s)-1], 10, 64)
		want := new(big.Int).Mul(big.NewInt(n), big.NewInt(seconds[s[len(s)-1]]))
		switch {
		case want.Sign() == 0:
			want.SetInt64(1) // at once, as 0 would be for ever
		case !want.IsInt64():
			want.SetInt64(math.MaxInt64)
		}
		if got != time.Duration(want.Int64()) {
			t.Errorf("%q is %v, want %v", s, got, want)
		}
	})
}

var statusForm = regexp.MustCompile(`^[0-9]+$`)

func FuzzGRPCStatus(f *testing.F) {
	for _, seed := range [][2]string{{"0", ""}, {"14", "down"}, {"14", "50%25%"}, {"-1", "x"}, {"014", "%E2%82%AC"}, {"4294967296", ""}, {"", ""}, {"0x0", ""}, {"１", ""}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, status, message string) {
		code, _, ok := ParseStatus(http.Header{"Grpc-Status": {status}, "Grpc-Message": {message}})
		n, err := strconv.Atoi(status)
		switch valid := err == nil && statusForm.MatchString(status) && n <= math.MaxInt32; {
		case !ok:
			t.Error("a status that is there is not seen")
		case valid && code != Code(n), !valid && code != Unknown:
			t.Errorf("%q is %v", status, code)
		case code.String() == "":
			t.Errorf("%d has no name", code)
		}
		everything := ^Codes(0)
		if everything.Has(code) != (code < 32) || Codes(0).Has(code) {
			t.Errorf("a set is wrong about %v", code)
		}
	})
}

func FuzzFormatTimeout(f *testing.F) {
	for _, seed := range []int64{-1, 0, 1, 99_999_999, 100_000_000, 1e9, 99_999_999e6, 99_999_999e9, math.MaxInt64} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		d := time.Duration(n)
		s := FormatTimeout(d)
		got, ok := ParseTimeout(s)
		if !ok || n > 0 && n < math.MaxInt64/2 && (got < d || float64(got) > float64(d)*1.00001) {
			t.Errorf("%v is sent as %s, which is %v", d, s, got)
		}
	})
}
