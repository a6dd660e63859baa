package routes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Notes returns remarks about a valid configuration that may surprise its author, one per line, sorted. The options of a fallback
// strategy give one by a method Note() string, "" for none.
func (c *Config) Notes() (notes []string) {
	fallbacks := map[string][]string{} // the names of fallbacks in use, by note
	inUse := map[string]bool{}
	for _, r := range c.Routes {
		inUse[r.Fallback] = inUse[r.Fallback] || r.FallbackEnabled
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fallbacks)) {
		f := c.Fallbacks[name]
		for _, strategy := range f.Try {
			o, ok := f.Strategies[strategy].(interface{ Note() string })
			if !ok || !inUse[name] {
				continue
			}
			if note := o.Note(); note != "" {
				key := strategy + " " + note
				fallbacks[key] = append(fallbacks[key], name)
			}
		}
	}
	for _, note := range slices.Sorted(maps.Keys(fallbacks)) {
		notes = append(notes, fmt.Sprintf("%s: %s", note, strings.Join(fallbacks[note], ", ")))
	}
	return notes
}
