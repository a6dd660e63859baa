package suites

import (
	"io"
	"net/http"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// TestOpenAPIDocumentIsOne checks the admin plane's description against OpenAPI's own schema, and
// answers against the description with another implementation than cbproxy's own tests.
func TestOpenAPIDocumentIsOne(t *testing.T) {
	t.Parallel()
	p := startProxy(t, "routes: {svc: {prefix: /svc, upstream: http://127.0.0.1:1, breaker: {fail_max: 1}}}\n")
	res, err := http.Get(p.admin + "/api/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", res.StatusCode, err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, faults := v.ValidateDocument(); !ok {
		for _, f := range faults {
			t.Errorf("%s: %s", f.Message, f.Reason)
			for _, s := range f.SchemaValidationErrors {
				t.Errorf("  %s: %s", s.FieldPath, s.Reason)
			}
		}
	}
	if res, err := http.Get("http://" + p.data + "/svc/x"); err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v, %v", res, err)
	}
	for path, want := range map[string]int{
		"circuit-breakers/health": 200, "circuit-breakers/svc": 200, "circuit-breakers/svc/history": 200, "circuit-breakers/none": 404,
		"queue": 200, "queue?limit=7": 200, "config": 200, "openapi.json": 200,
	} {
		r, err := http.NewRequest(http.MethodGet, p.admin+"/api/v1/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%s: %v, %v", path, res, err)
		}
		if ok, faults := v.ValidateHttpRequestResponse(r, res); !ok {
			for _, f := range faults {
				t.Errorf("%s: %s: %s", path, f.Message, f.Reason)
			}
		}
		_ = res.Body.Close()
	}
}
