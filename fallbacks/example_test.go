package fallbacks_test

import (
	"context"
	"fmt"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
)

// teapot is a strategy.
type teapot struct{ message string }

// teapotOptions are decoded from fallbacks.NAME.teapot in the configuration.
type teapotOptions struct {
	Message string `yaml:"message"`
}

func (p teapot) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	body := fmt.Sprintf("%s: %s is %s", p.message, r.Service, r.Reason)
	return &fallbacks.Answer{Status: http.StatusTeapot, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(body)}, nil
}

// A program registers its strategies before it loads the configuration. A fallback with
// try: [teapot] then uses this one.
func ExampleRegister() {
	fallbacks.Register("teapot", fallbacks.Factory[teapotOptions]{
		Defaults: func() *teapotOptions { return &teapotOptions{Message: "short and stout"} },
		New: func(o *teapotOptions, _ fallbacks.Env) (fallbacks.Strategy, error) {
			return teapot{o.Message}, nil
		},
	})

	options := map[string]any{"teapot": fallbacks.Options()["teapot"]()} // decoded from the configuration
	chain, err := fallbacks.NewChain([]string{"teapot"}, options, fallbacktest.Env(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &fallbacktest.Client{Req: fallbacks.Request{Service: "rag_service", Method: http.MethodGet}}
	a, strategy, _ := chain.Answer(context.Background(), client, "open")
	fmt.Println(strategy, a.Status, string(a.Body))
	// Output: teapot 418 short and stout: rag_service is open
}
