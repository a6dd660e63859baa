package admin

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSecondsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []time.Duration{0, 1, time.Millisecond, 1500 * time.Millisecond, time.Minute, 999999999*time.Second + 1, -time.Second} {
		text, err := json.Marshal(Seconds(want))
		if err != nil {
			t.Fatal(err)
		}
		var got Seconds
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := time.Duration(got) - want; diff.Abs() > 100 { // the precision of a JSON number of that size
			t.Errorf("%v: encoded as %s, decoded as %v", want, text, time.Duration(got))
		}
	}
	var s Seconds
	for _, text := range []string{`"1s"`, `[]`, `true`} {
		if json.Unmarshal([]byte(text), &s) == nil {
			t.Errorf("%s: decoded as %v, want an error", text, time.Duration(s))
		}
	}
}
