package demo_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/demo"
)

func TestSwitchesPageEscapesValues(t *testing.T) {
	u := &demo.Upstream{Service: `<a b="/?&'`}
	if err := u.Set(demo.Dead); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	demo.Switches([]*demo.Upstream{u}, `http://x/"><script>{{switches}}`).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, want := range []string{
		"<strong>&lt;a b=&#34;/?&amp;&#39;</strong>", `formaction="/%3Ca%20b=%22%2F%3F&amp;%27/dead" aria-pressed="true">dead<`, `aria-pressed="false">fine<`,
		`href="http://x/&#34;&gt;&lt;script&gt;{{switches}}"`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing in\n%s", want, w.Body)
		}
	}
}
