package endpoint_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/endpoint"
	"cbproxy/fallbacks/fallbacktest"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, _ := io.ReadAll(r.Body)
		fmt.Print(string(request))
		_, _ = io.WriteString(w, `{"status": 200, "body": {"source": "archive"}}`)
	}))
	defer server.Close()
	o := endpoint.DefaultOptions()
	o.URL.URL, _ = url.Parse(server.URL)
	s, err := endpoint.New(o, fallbacktest.NewProcess().Env())
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := s.Answer(context.Background(), &fallbacks.Request{Service: "rag_service", Reason: "open", Method: http.MethodGet, Host: "rag", Path: "/documents/7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Status, string(a.Body))
	// Output:
	// {"version":1,"service":"rag_service","reason":"open","method":"GET","host":"rag","path":"/documents/7","query":"","headers":{}}
	// 200 {"source": "archive"}
}
