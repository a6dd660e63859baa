// Package configdiff describes in sentences what changes between two configurations.
package configdiff

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"cbproxy/internal/sanitize"
	"cbproxy/routes"
)

// Change is a change that is the same for one or more services.
type Change struct {
	routes.Change
	services  []string // of a key below routes
	rest      string   // the key below the service
	algorithm string   // of the breakers, if it is a key of theirs
}

// Compare returns the changes from one configuration to the next, in the order of routes.Config.Diff. Equal changes of several services,
// which an edit of defaults causes, are one.
func Compare(old, next *routes.Config) (changes []*Change) {
	for _, c := range next.Diff(old) {
		g := &Change{Change: c}
		if key, ok := strings.CutPrefix(c.Key, "routes."); ok {
			service, rest, _ := strings.Cut(key, ".")
			g.services, g.rest = []string{service}, rest
			if strings.HasPrefix(rest, "breaker.") {
				g.algorithm = next.Routes[service].Breaker.Algorithm
			}
		}
		i := slices.IndexFunc(changes, func(o *Change) bool {
			return g.rest != "" && o.rest == g.rest && o.algorithm == g.algorithm && string(o.Old) == string(g.Old) && string(o.New) == string(g.New)
		})
		if i < 0 {
			changes = append(changes, g)
			continue
		}
		changes[i].services = append(changes[i].services, g.services...)
	}
	return changes
}

// WriteText writes the key, the values and the effect of a change. Values are safe for a terminal.
func (g *Change) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %s\n    %s\n", g.name(), g.Values(), g.Effect())
	return err
}

// name returns the key of the change, for several services with their names in braces.
func (g *Change) name() string {
	if len(g.services) > 1 {
		return "routes.{" + strings.Join(g.services, ",") + "}." + g.rest
	}
	return g.Key
}

const maxValueLength = 120 // characters of a value that are shown

// Values returns the old and the new value, such as 5 -> 10, except those of secrets.
func (g *Change) Values() string {
	switch {
	case g.Old == nil:
		return "new"
	case g.New == nil:
		return "removed"
	case g.Hidden:
		return "secret changed"
	}
	return shortValue(g.Old) + " -> " + shortValue(g.New)
}

// shortValue formats a JSON value, truncated. A string without spaces and quotes is shown without its quotes.
func shortValue(value json.RawMessage) string {
	text := string(value)
	var s string
	if json.Unmarshal(value, &s) == nil && s != "" && !strings.ContainsAny(s, " \t\n\"") {
		text = s
	}
	return sanitize.Short(text, maxValueLength)
}

// Effect describes the effect of the change in one or more sentences.
func (g *Change) Effect() string {
	text := g.text()
	if text == "" {
		text = routes.Describe(g.Key)
	}
	if g.Restart {
		text = "Needs a restart. " + strings.TrimSuffix(text, " Changing it needs a restart.")
	}
	return text
}
