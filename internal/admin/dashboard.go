package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"
)

//go:embed dashboard
var dashboardFiles embed.FS

// contentPolicy is the Content-Security-Policy of the dashboard: it may load only its own files.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// asset is one file of the dashboard.
type asset struct {
	content []byte
	etag    string
}

// assets returns the dashboard's files by URL path.
var assets = sync.OnceValues(func() (map[string]asset, error) {
	all := map[string]asset{}
	err := fs.WalkDir(dashboardFiles, "dashboard", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := dashboardFiles.ReadFile(path)
		all["/"+path] = asset{content, fmt.Sprintf(`"%x"`, sha256.Sum256(content))}
		return err
	})
	all["/"] = all["/dashboard/index.html"]
	delete(all, "/dashboard/index.html")
	return all, err
})

// dashboard serves the files of the dashboard. They are public: the scripts fetch all data from the API, with the token if one
// is needed.
func (a *api) dashboard(w http.ResponseWriter, r *http.Request) {
	all, err := assets()
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	file, ok := all[r.URL.Path]
	if !ok {
		writeProblem(w, http.StatusNotFound, "no such path")
		return
	}
	only(http.MethodGet, file.serve).ServeHTTP(w, r)
}

func (f asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // the browser revalidates before each use
	h.Set("ETag", f.etag)
	h.Set("Content-Security-Policy", contentPolicy)
	name := r.URL.Path
	if strings.HasSuffix(name, "/") {
		name = "index.html"
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
}
