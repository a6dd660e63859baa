package admin

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSecondsAreReadAsTheyAreWritten(t *testing.T) {
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
		if diff := time.Duration(got) - want; diff.Abs() > 100 { // as exact as a JSON number of that size is
			t.Errorf("%v as %s is read as %v", want, text, time.Duration(got))
		}
	}
	var s Seconds
	for _, text := range []string{`"1s"`, `[]`, `true`} {
		if json.Unmarshal([]byte(text), &s) == nil {
			t.Errorf("%s is read as %v", text, time.Duration(s))
		}
	}
}
