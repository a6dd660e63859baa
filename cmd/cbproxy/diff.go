package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"cbproxy/routes"
)

// printDiff describes what changes when a proxy that runs with the file old reloads the file next.
func printDiff(w io.Writer, old, next string) error {
	from, err := loadChecked(w, old)
	if err != nil {
		return err
	}
	to, err := loadChecked(w, next)
	if err != nil {
		return err
	}
	groups := groupChanges(to.Diff(from), to)
	if len(groups) == 0 {
		_, err = fmt.Fprintf(w, "%s and %s have the same effect\n", old, next)
		return err
	}
	restarts := 0
	for _, g := range groups {
		if _, err := fmt.Fprintf(w, "%s: %s\n    %s\n", g.name(), g.values(), g.effect()); err != nil {
			return err
		}
		if g.Restart {
			restarts++
		}
	}
	_, err = fmt.Fprintf(w, "\n%s from %s to %s%s\n", plural(len(groups), "change"), old, next, restartNote(restarts))
	return err
}

// plural returns a count with its noun, in the plural unless n is 1.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// restartNote says how many changes need a restart.
func restartNote(n int) string {
	switch n {
	case 0:
		return "; no restart needed"
	case 1:
		return "; 1 of them needs a restart"
	}
	return fmt.Sprintf("; %d of them need a restart", n)
}

// changeGroup is a change that is the same for one or more services.
type changeGroup struct {
	routes.Change
	services  []string // of a key below routes
	rest      string   // the key below the service
	algorithm string   // of the breakers, if it is a key of theirs
}

// groupChanges merges equal changes to next of several services, which an edit of defaults causes.
func groupChanges(changes []routes.Change, next *routes.Config) (groups []*changeGroup) {
	for _, c := range changes {
		g := &changeGroup{Change: c}
		if key, ok := strings.CutPrefix(c.Key, "routes."); ok {
			service, rest, _ := strings.Cut(key, ".")
			g.services, g.rest = []string{service}, rest
			if strings.HasPrefix(rest, "breaker.") {
				g.algorithm = next.Routes[service].Breaker.Algorithm
			}
		}
		i := slices.IndexFunc(groups, func(o *changeGroup) bool {
			return g.rest != "" && o.rest == g.rest && o.algorithm == g.algorithm && string(o.Old) == string(g.Old) && string(o.New) == string(g.New)
		})
		if i < 0 {
			groups = append(groups, g)
			continue
		}
		groups[i].services = append(groups[i].services, g.services...)
	}
	return groups
}

// name returns the key of the change, for several services with their names in braces.
func (g *changeGroup) name() string {
	if len(g.services) > 1 {
		return "routes.{" + strings.Join(g.services, ",") + "}." + g.rest
	}
	return g.Key
}

const maxValueLength = 120 // characters of a value that are printed

// values returns the old and the new value, except those of secrets.
func (g *changeGroup) values() string {
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

// shortValue formats a JSON value, truncated. A string without spaces and quotes is printed without its quotes.
func shortValue(value json.RawMessage) string {
	text := string(value)
	var s string
	if json.Unmarshal(value, &s) == nil && s != "" && !strings.ContainsAny(s, " \t\n\"") {
		text = s
	}
	return short(text, maxValueLength)
}

// effect describes the effect of the change.
func (g *changeGroup) effect() string {
	text := g.text()
	if text == "" {
		text = routes.Describe(g.Key)
	}
	if g.Restart {
		text = "Needs a restart. " + strings.TrimSuffix(text, " Changing it needs a restart.")
	}
	return text
}
