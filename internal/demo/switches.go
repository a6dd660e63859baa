package demo

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// switchesText is the template of the page.
//
//go:embed switches.html
var switchesText string

// switchesPage returns the page with a switch for each upstream.
func switchesPage(all []*Upstream, dashboard string) string {
	var switches strings.Builder
	for _, u := range all {
		fmt.Fprintf(&switches, "<form method=\"post\"><strong>%s</strong>", html.EscapeString(u.Service))
		for _, f := range Faults {
			to := "/" + url.PathEscape(u.Service) + "/" + url.PathEscape(string(f))
			fmt.Fprintf(&switches, " <button formaction=\"%s\" aria-pressed=\"%t\">%s</button>", html.EscapeString(to), u.Fault() == f, html.EscapeString(string(f)))
		}
		switches.WriteString("</form>\n")
	}
	return strings.NewReplacer("{{dashboard}}", html.EscapeString(dashboard), "{{switches}}", switches.String()).Replace(switchesText)
}

// Switches returns a handler with a page of the upstreams' switches at /. POST /SERVICE/FAULT sets one.
func Switches(all []*Upstream, dashboard string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, switchesPage(all, dashboard)) // an error means that the browser has disconnected
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
			_, _ = fmt.Fprintf(w, "%s: %s\n", u.Service, u.Fault())
			return
		}
		http.Error(w, fmt.Sprintf("unknown service %q", r.PathValue("service")), http.StatusNotFound)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}
