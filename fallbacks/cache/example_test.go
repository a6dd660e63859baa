package cache_test

import (
	"context"
	"fmt"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/cache"
)

func Example() {
	strategy, err := cache.New(cache.DefaultOptions(), fallbacks.Env{Service: "rag_service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := strategy.(*cache.Strategy)
	s.Start()
	r := &fallbacks.Request{Method: http.MethodGet, Host: "rag", Path: "/documents/7"}
	_, err = s.Answer(context.Background(), r)
	fmt.Println(err)

	recorder := s.Record(r, http.StatusOK, http.Header{"Content-Type": {"text/plain"}})
	recorder.Write([]byte("seven"))
	recorder.Done()
	a, err := s.Answer(context.Background(), r)
	fmt.Println(a.Status, string(a.Body), a.Header.Get("Cache-Status"), err)
	// Output:
	// no successful response to the same request is cached
	// 200 seven cbproxy; hit <nil>
}
