package routes

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"cbproxy/internal/servicelink"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

// TokenVariable is the environment variable with the admin API's bearer token.
const TokenVariable = "CBPROXY_ADMIN_TOKEN" // #nosec G101 -- the name of the variable, not its value

// The environment variables that override keys of redis. An empty one counts as none.
const (
	redisURLVariable = "REDIS_URL"
	redisTTLVariable = "REDIS_CIRCUIT_BREAKER_TTL"
)

// overridable are the keys of a route that environment variables can set, by the suffix of the variable's name.
var overridable = map[string]string{
	"FAIL_MAX":           "breaker.fail_max",
	"RECOVERY_TIMEOUT":   "breaker.recovery_timeout",
	"HALF_OPEN_REQUESTS": "breaker.half_open_requests",
	"TIMEOUT":            "timeout",
	"FALLBACK_ENABLED":   "fallback_enabled",
	"PRIORITY":           "priority",
}

// overrides applies the environment variables.
func (b *builder) overrides() {
	names := map[string][]string{} // targets, as service.suffix, by variable
	for service := range b.config.Routes {
		for suffix := range overridable {
			variable := ServicePrefix + variableName(service) + "_" + suffix
			names[variable] = append(names[variable], service+"."+suffix)
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(b.environ)) {
		if !strings.HasPrefix(variable, ServicePrefix) {
			continue
		}
		at := strictyaml.Place{Path: printableName(variable)}
		switch targets := names[variable]; len(targets) {
		case 0:
			if !servicelink.Is(variable, ServicePrefix, b.environ) {
				b.addUnknownVariable(at, variable)
			}
		case 1:
			b.override(at, targets[0], b.environ[variable])
		default:
			slices.Sort(targets)
			b.faults.Add(at, "is ambiguous, it could set %s", strings.Join(targets, " or "))
		}
	}
	b.otherVariables()
}

// override sets one key of a service.
func (b *builder) override(at strictyaml.Place, target, text string) {
	service, suffix, _ := strings.Cut(target, ".")
	b.set(at, reflect.ValueOf(b.config.Routes[service]).Elem(), overridable[suffix], text)
}

// set decodes the text of a variable, whose place is at, into the field of a struct at a path of keys.
func (b *builder) set(at strictyaml.Place, in reflect.Value, path, text string) {
	v, r := fieldAt(in, path)
	if v.Kind() == reflect.Bool {
		switch text {
		case "1":
			text = "true"
		case "0":
			text = "false"
		}
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
	d := strictyaml.Decoder{Faults: b.faults, Expanded: map[*yaml.Node]bool{n: true}, Forms: textform.Checks}
	d.Value(n, at, v, r)
}

// fieldAt returns the field of v at a path of keys, and its rules.
func fieldAt(v reflect.Value, path string) (reflect.Value, strictyaml.Rules) {
	name, rest, deeper := strings.Cut(path, ".")
	f := strictyaml.FieldsOf(v.Type())[name]
	if deeper {
		return fieldAt(v.FieldByIndex(f.Index), rest)
	}
	return v.FieldByIndex(f.Index), strictyaml.RulesOf(f.Tag)
}

// addUnknownVariable adds the fault of a variable with an unknown service or key.
func (b *builder) addUnknownVariable(at strictyaml.Place, variable string) {
	if len(b.config.Routes) == 0 {
		return // which has been reported
	}
	name := strings.TrimPrefix(variable, ServicePrefix)
	for service := range b.config.Routes {
		if strings.HasPrefix(name, variableName(service)+"_") {
			b.faults.Add(at, "must end in one of %s to set a key of %s", listNames(overridable), service)
			return
		}
	}
	var known []string
	for _, service := range slices.Sorted(maps.Keys(b.config.Routes)) {
		known = append(known, fmt.Sprintf("%s%s_… for %s", ServicePrefix, variableName(service), service))
	}
	b.faults.Add(at, "must name a configured service: %s", strings.Join(known, ", "))
}

func (b *builder) otherVariables() {
	b.config.Admin.Token = strings.TrimSpace(b.environ[TokenVariable])
	if b.environ[TokenVariable] != "" && b.config.Admin.Token == "" {
		b.faults.Add(strictyaml.Place{Path: TokenVariable}, "must be a token, got only spaces")
	}
	for variable, path := range map[string]string{redisURLVariable: "url", redisTTLVariable: "ttl"} {
		if text := b.environ[variable]; text != "" {
			b.set(strictyaml.Place{Path: variable}, reflect.ValueOf(&b.config.Redis).Elem(), path, text)
		}
	}
}

// variableName returns the name of a service in environment variables.
func variableName(service string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(strings.TrimSuffix(service, "_service")))
}

func printableName(variable string) string {
	return strictyaml.Place{}.Key(&yaml.Node{Value: variable}).Path
}

// environment returns environ, which has the form of os.Environ, as a map. If a name occurs twice, the
// first value counts, as for os.Getenv.
func environment(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if _, twice := vars[name]; ok && !twice {
			vars[name] = value
		}
	}
	return vars
}
