package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/fallbacks/upstream"
)

func Example() {
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "standby: "+r.URL.Path)
	}))
	defer standby.Close()
	o := upstream.DefaultOptions()
	o.URL.URL, _ = url.Parse(standby.URL)
	s, err := upstream.New(o, fallbacktest.NewProcess().Env())
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := s.Answer(context.Background(), &fallbacks.Request{Method: http.MethodGet, Rest: "/documents/7", Header: http.Header{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Status, string(a.Body))
	// Output: 200 standby: /documents/7
}
