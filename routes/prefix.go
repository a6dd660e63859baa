package routes

import (
	"net/url"
	"slices"
	"strings"

	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

// Prefixes are path prefixes without a trailing slash. The prefix of all paths is "/". In a loaded
// Config they are valid, and no two of them match the same paths.
type Prefixes []string

// UnmarshalYAML sets p to a prefix or a list of prefixes, which may be empty.
func (p *Prefixes) UnmarshalYAML(n *yaml.Node) error {
	const want = "must be a path prefix such as /rag"
	*p = nil
	if n.Kind == yaml.MappingNode || n.Tag == "!!null" {
		return strictyaml.Errorf("%s, or a list of them, got %s", want, strictyaml.Show(n))
	}
	return strictyaml.EachScalar(n, want, func(text string) string {
		if want := textform.CheckPrefix(text); want != "" {
			return want
		}
		if len(text) > 1 {
			text = strings.TrimSuffix(text, "/")
		}
		if slices.ContainsFunc(*p, func(other string) bool { return canonicalPrefix(other) == canonicalPrefix(text) }) {
			return "must be listed once"
		}
		*p = append(*p, text)
		return ""
	})
}

// canonicalPrefix returns the same text for all spellings of a prefix.
func canonicalPrefix(prefix string) string {
	decoded, err := url.PathUnescape(prefix)
	if err != nil {
		return prefix
	}
	return decoded
}
