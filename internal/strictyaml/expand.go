package strictyaml

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cbproxy/internal/sanitize"
)

var reference = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// expand replaces ${NAME} and ${NAME:-default} in s by the variable's value, and $${ by ${. As in a
// shell, the default also replaces an empty value. Values are not expanded again. changed reports
// whether s contained a reference. A result of more than most bytes is an error.
func expand(s string, environ map[string]string, most int) (text string, changed bool, err error) {
	if !strings.Contains(s, "${") {
		return s, false, nil
	}
	var out strings.Builder
	whole := s
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), true, nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		m := reference.FindStringSubmatch(s[i:])
		if m == nil || strings.Contains(m[3], "${") {
			got := sanitize.TruncateRunes(s[i:], 40)
			if strings.Contains(s[i:], "@") || sanitize.Redact(whole) != whole {
				got = "another form" // the text may contain a password
			}
			return "", true, errors.New("must be ${NAME} or ${NAME:-default} (write $${ for a plain ${), got " + got)
		}
		value := environ[m[1]]
		switch _, set := environ[m[1]]; {
		case m[2] != "" && value == "":
			value = m[3]
		case !set:
			return "", true, fmt.Errorf("${%s} is not set and has no default", sanitize.TruncateRunes(m[1], MaxNameRunes))
		}
		if out.Len()+len(value) > most {
			return "", true, errors.New("must be shorter: ${} expands to too much text")
		}
		out.WriteString(value)
		s = s[i+len(m[0]):]
	}
}
