package fallbacks_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// teapot is a strategy of somebody else's.
type teapot struct{ excuse string }

// teapotOptions are what stands under fallbacks.NAME.teapot in the configuration.
type teapotOptions struct {
	Excuse string `yaml:"excuse"`
}

func (p teapot) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	body := fmt.Sprintf("%s: %s is %s", p.excuse, r.Service, r.Reason)
	return &fallbacks.Answer{Status: http.StatusTeapot, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(body)}, nil
}

// A program of one's own registers its strategies and then does what cmd/cbproxy does: that
// loads the configuration, and each route with try: [teapot] in its fallback has a chain.
func ExampleRegister() {
	fallbacks.Register("teapot", fallbacks.Factory[teapotOptions]{
		Defaults: func() *teapotOptions { return &teapotOptions{Excuse: "short and stout"} },
		New: func(o *teapotOptions, _ fallbacks.Site) (fallbacks.Strategy, error) {
			return teapot{o.Excuse}, nil
		},
	})

	options := map[string]any{"teapot": fallbacks.Options()["teapot"]()} // a configuration fills it
	site := fallbacks.Site{Service: "rag_service", Logger: slog.Default()}
	chain, err := fallbacks.NewChain([]string{"teapot"}, options, site, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	request := &client{request: fallbacks.Request{Service: "rag_service", Method: http.MethodGet}}
	a, strategy, _ := chain.Answer(context.Background(), request, events.ReasonOpen)
	fmt.Println(strategy, a.Status, string(a.Body))
	// Output: teapot 418 short and stout: rag_service is open
}
