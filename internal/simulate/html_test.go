package simulate

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"cbproxy/internal/breaker"
)

// elements calls visit for each element of a page.
func elements(n *html.Node, visit func(n *html.Node, attribute func(string) string)) {
	if n.Type == html.ElementNode {
		visit(n, func(key string) string {
			for _, a := range n.Attr {
				if a.Key == key {
					return a.Val
				}
			}
			return ""
		})
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		elements(c, visit)
	}
}

func TestPageShowsEachOpeningAndNeedsNoOtherFile(t *testing.T) {
	const name = `<script>alert("x")</script>`
	record := Record{name: Scenario{Name: "flapping", Rate: 10, Minutes: 4, Seed: 1}.Calls(begin), "b": callsOf("s")}
	policies := func(n int) Policies {
		return func(string) (breaker.Policy, bool) { return failMax(n), true }
	}
	report, _ := Compare(record, policies(2), policies(5))
	var page, again bytes.Buffer
	for _, b := range []*bytes.Buffer{&page, &again} {
		if err := report.WriteHTML(b, record, "new.yaml", "<b>old.yaml"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(page.Bytes(), again.Bytes()) {
		t.Error("two pages of the same report differ")
	}
	root, err := html.Parse(&page)
	if err != nil {
		t.Fatal(err)
	}
	open, charts := 0, 0
	elements(root, func(n *html.Node, attribute func(string) string) {
		switch {
		case n.Data == "script" || n.Data == "link" || n.Data == "img" || n.Data == "b":
			t.Errorf("the page has the element %s", n.Data)
		case n.Data == "svg":
			charts++
		case attribute("class") == "open":
			open++
		}
		for _, key := range []string{"src", "href", "onload"} {
			if attribute(key) != "" {
				t.Errorf("%s has %s", n.Data, key)
			}
		}
	})
	s := report.Services[name]
	if want := s.Config.Openings + s.Against.Openings; open != want || want == 0 || charts != 4 {
		t.Errorf("%d openings in %d charts, want %d in 4", open, charts, want)
	}
	if strings.Contains(again.String(), "NaN") || strings.Contains(again.String(), "Inf") {
		t.Error("a coordinate is no number")
	}
	var empty bytes.Buffer
	if err := (&Report{}).WriteHTML(&empty, nil, "a", ""); err != nil || !strings.Contains(empty.String(), "no calls") {
		t.Errorf("without calls: %v, %s", err, empty.String())
	}
}

func TestTimelineShowsOpenings(t *testing.T) {
	calls := callsOf("fffssssssssssssssssss")
	s := &ServiceReport{first: begin, last: begin.Add(20 * time.Second), Config: Run("svc", failMax(3), calls)}
	// Open from 2 to 7 s, half-open until the call at 8 s.
	if got, want := s.timeline(s.Config, 21), "··██████▒············"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
