package static_test

import (
	"context"
	"fmt"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/static"
)

func Example() {
	o := static.DefaultOptions()
	o.Body = fallbacks.JSON(`{"rules": []}`)
	s, err := static.New(o, fallbacks.Env{Service: "rule_generation_service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	a, _ := s.Answer(context.Background(), &fallbacks.Request{})
	fmt.Println(a.Status, string(a.Body))
	// Output: 200 {"rules": []}
}
