package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"cbproxy/routes"
)

// printDiff explains what changes when a proxy that runs with the file old is given the file next.
func printDiff(w io.Writer, old, next string) error {
	from, err := loadChecked(w, old)
	if err != nil {
		return err
	}
	to, err := loadChecked(w, next)
	if err != nil {
		return err
	}
	groups := grouped(to.Diff(from))
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
	_, err = fmt.Fprintf(w, "\n%s from %s to %s%s\n", count(len(groups), "change"), old, next, restartNote(restarts))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func restartNote(n int) string {
	switch n {
	case 0:
		return "; all of it takes effect without a restart"
	case 1:
		return "; 1 of them takes effect with a restart"
	}
	return fmt.Sprintf("; %d of them take effect with a restart", n)
}

// changeGroup is one change, made to one service or to several alike.
type changeGroup struct {
	routes.Change
	services []string // of a key below routes
	rest     string   // the key below the service
}

// grouped merges equal changes of several services, which an edit of defaults causes.
func grouped(changes []routes.Change) (groups []*changeGroup) {
	for _, c := range changes {
		g := &changeGroup{Change: c}
		if of, ok := strings.CutPrefix(c.Key, "routes."); ok {
			service, rest, _ := strings.Cut(of, ".")
			g.services, g.rest = []string{service}, rest
		}
		i := slices.IndexFunc(groups, func(o *changeGroup) bool {
			return g.rest != "" && o.rest == g.rest && string(o.Old) == string(g.Old) && string(o.New) == string(g.New)
		})
		if i < 0 {
			groups = append(groups, g)
			continue
		}
		groups[i].services = append(groups[i].services, g.services...)
	}
	return groups
}

func (g *changeGroup) name() string {
	if len(g.services) > 1 {
		return "routes.{" + strings.Join(g.services, ",") + "}." + g.rest
	}
	return g.Key
}

const longestValue = 120 // characters of a value

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

func shortValue(value json.RawMessage) string {
	text := string(value)
	var s string
	if json.Unmarshal(value, &s) == nil && s != "" && !strings.ContainsAny(s, " \t\n\"") {
		text = s
	}
	return short(text, longestValue)
}

// effect describes the effect of the change.
func (g *changeGroup) effect() string {
	text := g.text()
	if text == "" {
		text = routes.Describe(g.Key)
	}
	if g.Restart {
		text = "Takes effect with a restart. " + strings.TrimSuffix(text, " Changing it needs a restart.")
	}
	return text
}
