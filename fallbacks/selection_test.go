package fallbacks_test

import (
	"errors"
	"testing"

	"cbproxy/fallbacks"
)

func TestSelection(t *testing.T) {
	lookup := []string{"GET", "HEAD", "POST"}
	json := []string{"application/json"}
	for name, c := range map[string]struct {
		selection fallbacks.Selection
		method    string
		accept    []string
		want      bool
	}{
		"all":                                {fallbacks.Selection{}, "PROPFIND", []string{"text/html"}, true},
		"a method":                           {fallbacks.Selection{Methods: lookup}, "POST", nil, true},
		"another method":                     {fallbacks.Selection{Methods: lookup}, "DELETE", nil, false},
		"a method in lower case":             {fallbacks.Selection{Methods: lookup}, "get", nil, false},
		"no Accept":                          {fallbacks.Selection{ContentTypes: json}, "GET", nil, true},
		"an empty Accept":                    {fallbacks.Selection{ContentTypes: json}, "GET", []string{""}, false},
		"the type":                           {fallbacks.Selection{ContentTypes: json}, "GET", []string{"text/html, Application/JSON;q=0.1"}, true},
		"the type with a parameter":          {fallbacks.Selection{ContentTypes: json}, "GET", []string{"application/json; charset=utf-8"}, true},
		"all types":                          {fallbacks.Selection{ContentTypes: json}, "GET", []string{"*/*"}, true},
		"all types of the kind":              {fallbacks.Selection{ContentTypes: json}, "GET", []string{"application/*"}, true},
		"a stream":                           {fallbacks.Selection{ContentTypes: json}, "GET", []string{"text/event-stream"}, false},
		"a stream, or anything":              {fallbacks.Selection{ContentTypes: json}, "GET", []string{"text/event-stream", "*/*;q=0.1"}, true},
		"anything but the type":              {fallbacks.Selection{ContentTypes: json}, "GET", []string{"*/*, application/json;q=0"}, false},
		"nothing":                            {fallbacks.Selection{ContentTypes: json}, "GET", []string{"*/*;q=0"}, false},
		"one of two types":                   {fallbacks.Selection{ContentTypes: []string{"text/plain", "application/json"}}, "GET", []string{"application/json"}, true},
		"a malformed range beside the type":  {fallbacks.Selection{ContentTypes: json}, "GET", []string{"application/json;q=x, ;;, application/json"}, true},
		"a malformed range only":             {fallbacks.Selection{ContentTypes: json}, "GET", []string{"application/json;q=x"}, false},
		"a type that begins like the type":   {fallbacks.Selection{ContentTypes: json}, "GET", []string{"application/json-seq"}, false},
		"both a method and a type, no type":  {fallbacks.Selection{Methods: lookup, ContentTypes: json}, "GET", []string{"text/html"}, false},
		"both a method and a type, both fit": {fallbacks.Selection{Methods: lookup, ContentTypes: json}, "GET", json, true},
	} {
		err := c.selection.Select(c.method, c.accept)
		if got := err == nil; got != c.want || !got && !errors.Is(err, fallbacks.ErrNotSelected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSelectionValidatesContentTypes(t *testing.T) {
	for value, valid := range map[string]bool{
		"application/json": true, "text/event-stream": true, "application/problem+json": true,
		"": false, "json": false, "*/*": false, "application/*": false, "Application/JSON": false, "application/json; charset=utf-8": false, "a/": false, "/b": false, "a b/c": false,
	} {
		reported := ""
		fallbacks.Selection{ContentTypes: []string{value}}.Validate(func(path, message string) { reported = path + ": " + message })
		if (reported == "") != valid {
			t.Errorf("%q: %q", value, reported)
		}
	}
}
