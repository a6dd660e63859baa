package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"sync"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"cbproxy/internal/e2e/harness"
)

// description is the OpenAPI document of the admin API. It records which of the described responses the test has received.
type description struct {
	t          testing.TB
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Responses map[string]documented
		Schemas   map[string]json.RawMessage
	}
	operations map[string]operation // by method and path
	received   map[string]bool      // by operation and status
	mu         sync.Mutex
	schemas    map[string]*jsonschema.Resolved // by their JSON text; guarded by mu
}

// operation is an operation in the document.
type operation struct {
	Responses map[string]documented
}

// documented is a response as described by the document.
type documented struct {
	Ref     string `json:"$ref"`
	Headers map[string]struct{ Required bool }
	Content map[string]struct{ Schema json.RawMessage }
	Events  map[string]json.RawMessage `json:"x-events"`
}

// fetchDescription returns the OpenAPI document served by p.
func fetchDescription(p *harness.Proxy) *description {
	p.T.Helper()
	d := &description{t: p.T, operations: map[string]operation{}, received: map[string]bool{}, schemas: map[string]*jsonschema.Resolved{}}
	if err := json.Unmarshal([]byte(p.AdminRequest("GET", "/api/v1/openapi.json", "").Body), d); err != nil {
		p.T.Fatal(err)
	}
	for path, item := range d.Paths {
		for method, text := range item {
			if method == "parameters" {
				continue
			}
			var o operation
			if err := json.Unmarshal(text, &o); err != nil {
				p.T.Fatalf("%s %s: %v", method, path, err)
			}
			for status, r := range o.Responses {
				if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
					o.Responses[status] = d.Components.Responses[name]
				}
			}
			d.operations[strings.ToUpper(method)+" "+path] = o
		}
	}
	return d
}

// valid checks JSON against a schema of the document.
func (d *description) valid(what string, schema json.RawMessage, text string) {
	d.t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		d.t.Errorf("%s: %v: %s", what, err, text)
		return
	}
	resolved, err := d.resolve(schema)
	if err == nil {
		err = resolved.Validate(value)
	}
	if err != nil {
		d.t.Errorf("%s does not match the document: %v\n%s", what, err, text)
	}
}

// resolve returns the schema with its references resolved.
func (d *description) resolve(schema json.RawMessage) (*jsonschema.Resolved, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.schemas[string(schema)]; known != nil {
		return known, nil
	}
	whole, err := json.Marshal(map[string]any{"$defs": d.Components.Schemas, "allOf": []json.RawMessage{schema}})
	if err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(bytes.ReplaceAll(whole, []byte("#/components/schemas/"), []byte("#/$defs/")), &s); err != nil {
		return nil, err
	}
	resolved, err := s.Resolve(nil)
	d.schemas[string(schema)] = resolved
	return resolved, err
}

// expect checks the response to an operation. The document must describe a response with this status.
func (d *description) expect(name string, status int, r harness.Response) {
	d.t.Helper()
	what := fmt.Sprint(name, " ", status)
	response, ok := d.operations[name].Responses[fmt.Sprint(status)]
	if !ok || r.Status != status {
		d.t.Errorf("%s: status %d, documented: %v: %s", what, r.Status, ok, r.Body)
		return
	}
	d.received[what] = true
	for field, h := range response.Headers {
		if h.Required && r.Header.Get(field) == "" {
			d.t.Errorf("%s: no %s", what, field)
		}
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	content, ok := response.Content[mediaType]
	switch {
	case !ok:
		d.t.Errorf("%s: media type %q", what, mediaType)
	case mediaType == "application/x-ndjson":
		for line := range strings.Lines(r.Body) {
			d.valid(what, content.Schema, line)
		}
	case strings.HasSuffix(mediaType, "json"):
		d.valid(what, content.Schema, r.Body)
	}
}

// validate returns an error if text does not match the schema.
func validate(schema *jsonschema.Resolved, text string) error {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	return schema.Validate(value)
}
