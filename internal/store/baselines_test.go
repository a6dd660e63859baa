package store_test

import "testing"

func TestBaselinesSurviveARestart(t *testing.T) {
	folder := createStore(t) // without baselines
	f := mustOpen(t, folder)
	if record, err := f.LoadBaseline("svc"); record != nil || err != nil {
		t.Errorf("%s, %v", record, err)
	}
	for _, records := range []map[string][]byte{{"svc": []byte("a"), "other": []byte("b")}, {"svc": []byte("c")}} {
		if err := f.SaveBaselines(records); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = mustOpen(t, folder)
	defer f.Close()
	for service, want := range map[string]string{"svc": "c", "other": "b", "none": ""} {
		if record, err := f.LoadBaseline(service); string(record) != want || err != nil {
			t.Errorf("%s: %s, %v", service, record, err)
		}
	}
}
