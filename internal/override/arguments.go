package override

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ParseArguments returns the values in arguments of the form KEY=VALUE as JSON by key.
func ParseArguments(args []string) (map[string]json.RawMessage, error) {
	set := map[string]json.RawMessage{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("an override must be KEY=VALUE, such as breaker.fail_max=10, got %q", arg)
		}
		if _, twice := set[key]; twice {
			return nil, fmt.Errorf("%s is set twice", key)
		}
		set[key] = valueOf(value)
	}
	return set, nil
}

// valueOf returns the JSON of a value: JSON as it is, a list of such values in brackets, or else a string.
func valueOf(text string) json.RawMessage {
	text = strings.TrimSpace(text)
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	var value any = text
	if items, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(items, "]") {
		list := []json.RawMessage{}
		for item := range strings.SplitSeq(strings.TrimSuffix(items, "]"), ",") {
			list = append(list, valueOf(item))
		}
		value = list
	}
	encoded, _ := json.Marshal(value) // never fails for a string and a list of JSON
	return encoded
}
