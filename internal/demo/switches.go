package demo

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed switches.html
var switchesText string

var switchesPage = template.Must(template.New("switches").Parse(switchesText))

// Switches serves a page with the upstreams' switches, and sets them: POST /SERVICE/FAULT.
func Switches(all []*Upstream, dashboard string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = switchesPage.Execute(w, map[string]any{"Upstreams": all, "Faults": Faults, "Dashboard": dashboard}) // to a browser that is gone
	})
	mux.HandleFunc("POST /{service}/{fault}", func(w http.ResponseWriter, r *http.Request) {
		for _, u := range all {
			if u.Service != r.PathValue("service") {
				continue
			}
			if err := u.Set(Fault(r.PathValue("fault"))); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if r.Header.Get("Sec-Fetch-Mode") == "navigate" { // a browser's form
				http.Redirect(w, r, "/", http.StatusSeeOther)
				return
			}
			_, _ = fmt.Fprintf(w, "%s is %s\n", u.Service, u.Fault())
			return
		}
		http.Error(w, fmt.Sprintf("no service is named %q", r.PathValue("service")), http.StatusNotFound)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}
