package routes

import (
	"regexp"
	"strconv"
	"strings"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// Statuses is a set of HTTP status codes. The zero value is empty. Safe for concurrent use
// unless it is being decoded.
type Statuses struct{ set [1024 / 64]uint64 }

var (
	statusClass = regexp.MustCompile(`^([1-9])xx$`)
	statusRange = regexp.MustCompile(`^([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?$`)
)

// Has reports whether code is in the set.
func (s Statuses) Has(code int) bool {
	return code >= 0 && code < 1024 && s.set[code/64]&(1<<(code%64)) != 0
}

// String returns the set as it can be written in a configuration, such as "429, 5xx".
func (s Statuses) String() string { return strings.Join(s.list(), ", ") }

// UnmarshalYAML sets s to a list of codes, classes such as "5xx" and ranges such as
// "500-504", or by a single one of these.
func (s *Statuses) UnmarshalYAML(n *yaml.Node) error {
	const want = `must be a code from 100 to 999, a class such as "5xx" or a range such as "500-504"`
	*s = Statuses{}
	if n.Kind == yaml.MappingNode || n.Tag == "!!null" {
		return strictyaml.Errorf("%s, or a list of these, got %s", want, strictyaml.Show(n))
	}
	return strictyaml.EachScalar(n, want, func(text string) string {
		if !s.add(text) {
			return want
		}
		return ""
	})
}

func (s *Statuses) add(text string) bool {
	first, last := 0, 0
	if m := statusClass.FindStringSubmatch(text); m != nil {
		first, _ = strconv.Atoi(m[1] + "00")
		last = first + 99
	} else if m := statusRange.FindStringSubmatch(text); m != nil {
		first, _ = strconv.Atoi(m[1])
		if last = first; m[2] != "" {
			last, _ = strconv.Atoi(m[2])
		}
	}
	if first == 0 || last < first {
		return false
	}
	for code := first; code <= last; code++ {
		s.set[code/64] |= 1 << (code % 64)
	}
	return true
}

// list returns the set as the smallest number of ranges, complete classes as "5xx".
func (s Statuses) list() []string {
	list := []string{}
	for code := 100; code < 1000; code++ {
		if !s.Has(code) {
			continue
		}
		first := code
		for s.Has(code+1) && (code+1)%100 != 0 {
			code++
		}
		switch {
		case code-first == 99:
			list = append(list, strconv.Itoa(first/100)+"xx")
		case code > first:
			list = append(list, strconv.Itoa(first)+"-"+strconv.Itoa(code))
		default:
			list = append(list, strconv.Itoa(first))
		}
	}
	return list
}
