package override_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/override"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

func some() map[string]events.Overrides {
	return map[string]events.Overrides{"svc": {
		Set: map[string]json.RawMessage{"breaker.fail_max": []byte("10"), "timeout": []byte(`"5s"`)}, Since: now, Until: now.Add(time.Hour), Reason: "why",
	}}
}

func TestFileKeepsWhatWasSaved(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	f := override.NewFile(folder)
	if got, quarantined, err := f.Load(now); len(got) > 0 || quarantined != "" || err != nil {
		t.Errorf("without a file: %v, %q, %v", got, quarantined, err)
	}
	if err := f.Save(nil); err != nil {
		t.Error(err)
	}
	if err := f.Save(some()); err != nil {
		t.Fatal(err)
	}
	if got, quarantined, err := override.NewFile(folder).Load(now); !reflect.DeepEqual(got, some()) || quarantined != "" || err != nil {
		t.Errorf("%v, %q, %v", got, quarantined, err)
	}
	if err := f.Save(map[string]events.Overrides{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(folder); len(entries) > 0 || err != nil {
		t.Errorf("left after the last overrides: %v, %v", entries, err)
	}
}

// An end that is later than any request can have set it is the result of a clock that was set back.
func TestFileLimitsRemainingTime(t *testing.T) {
	t.Parallel()
	f := override.NewFile(t.TempDir())
	if err := f.Save(some()); err != nil {
		t.Fatal(err)
	}
	past := now.Add(-48 * time.Hour)
	if got, _, err := f.Load(past); !got["svc"].Until.Equal(past.Add(override.MaxDuration)) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFileInMemory(t *testing.T) {
	t.Parallel()
	f := override.NewFile("")
	if err := f.Save(some()); err != nil {
		t.Error(err)
	}
	if got, quarantined, err := f.Load(now); len(got) > 0 || quarantined != "" || err != nil {
		t.Errorf("%v, %q, %v", got, quarantined, err)
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", "null", "[]", "{}", `{"overrides":{}}{}`, `{"overrides":{"svc":{}}}`, `{"overrides":{},"more":1}`, `{"overrides":{"svc":{"set":{"timeout":"5s"}}}}`, "\x00\x00"} {
		folder := t.TempDir()
		path := filepath.Join(folder, "overrides.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := override.NewFile(folder)
		got, quarantined, err := f.Load(now)
		if len(got) > 0 || err != nil || !strings.Contains(quarantined, path+".set-aside-") {
			t.Errorf("%q: %v, %q, %v", text, got, quarantined, err)
		}
		if err := f.Save(some()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "overrides.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := override.NewFile(folder).Load(now); err == nil || !strings.Contains(err.Error(), "overrides.json: must be a file") {
		t.Errorf("a directory in its place: %v", err)
	}
	if err := override.NewFile(filepath.Join(folder, "none")).Save(some()); err == nil || !strings.Contains(err.Error(), "overrides.json") {
		t.Errorf("no such folder: %v", err)
	}
}

func TestFlatten(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(override.Flatten([]byte(`{"timeout": "5s", "breaker": {"fail_max": 3, "probe": {"path": "/x"}}, "retry.statuses": [500], "idle_timeout": {}}`)))
	const want = `{"breaker.fail_max":3,"breaker.probe.path":"/x","retry.statuses":[500],"timeout":"5s"}`
	if string(got) != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}
