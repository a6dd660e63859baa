package dashboard

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"cbproxy/internal/e2e/harness"
)

// figures are the results of a simulation as the page shows them: of the thresholds in force and of the changed ones, by name.
type figures struct{ Against, Config map[string]float64 }

// shownFigures returns the figures on the page, with the request that they answer.
func (d *page) shownFigures() (f figures, request string) {
	d.t.Helper()
	const script = `(() => {
		const column = (n) => Object.fromEntries([...document.querySelectorAll("[data-figure]")].map((row) => [row.dataset.figure, Number(row.children[n].dataset.value)]));
		return JSON.stringify({Against: column(1), Config: column(2)});
	})()`
	if err := json.Unmarshal([]byte(evaluate[string](d, script)), &f); err != nil {
		d.t.Fatal(err)
	}
	return f, evaluate[string](d, `document.querySelector("#whatif-figures").dataset.request ?? ""`)
}

// simulate returns the figures of the admin API.
func simulate(p *harness.Proxy, request string) figures {
	p.T.Helper()
	res, err := http.Post(p.AdminURL+"/api/v1/simulate", "application/json", strings.NewReader(request))
	r := harness.ReadResponse(p.T, res, err)
	var report struct {
		Services map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(r.Body), &report); err != nil || r.Status != http.StatusOK || len(report.Services) != 1 {
		p.T.Fatalf("%+v, %v", r, err)
	}
	numbers := func(text json.RawMessage) map[string]float64 {
		var values map[string]any
		if err := json.Unmarshal(text, &values); err != nil {
			p.T.Fatal(err)
		}
		all := map[string]float64{}
		for name, value := range values {
			if n, ok := value.(float64); ok {
				all[name] = n
			}
		}
		return all
	}
	for _, s := range report.Services {
		return figures{numbers(s["against"]), numbers(s["config"])}
	}
	return figures{}
}

// awaitFigures waits until the page shows the answer to a request that contains part, and checks that it is that of the admin API.
func (d *page) awaitFigures(p *harness.Proxy, part string) figures {
	d.t.Helper()
	d.waitTrue("the answer with "+part, fmt.Sprintf(`(document.querySelector("#whatif-figures").dataset.request ?? "").includes(%q)`, part))
	shown, request := d.shownFigures()
	if want := simulate(p, request); !maps.Equal(shown.Config, want.Config) || !maps.Equal(shown.Against, want.Against) || len(shown.Config) != 5 {
		d.t.Errorf("%s: the page shows %v, the API answers %v", request, shown, want)
	}
	return shown
}
