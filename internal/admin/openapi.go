package admin

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"gopkg.in/yaml.v3"
)

//go:embed openapi.yaml
var openAPIText []byte

// openAPI returns the OpenAPI 3.1 document of the admin API as JSON.
var openAPI = sync.OnceValues(func() (json.RawMessage, error) {
	var document map[string]any
	if err := yaml.Unmarshal(openAPIText, &document); err != nil {
		return nil, fmt.Errorf("parse the OpenAPI document: %w", err)
	}
	return json.Marshal(document)
})

func (a *api) openapi(w http.ResponseWriter, _ *http.Request) {
	document, err := openAPI()
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	respond(w, http.StatusOK, document)
}
