package template_test

import (
	"context"
	"fmt"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/template"
)

func Example() {
	o := template.DefaultOptions()
	o.Body = fallbacks.JSON(`{"limit": "{{json \"limit\" | default 10}}", "message": "no answer for {{query \"q\"}}: {{reason}}"}`)
	s, err := template.New(o, fallbacks.Env{Service: "rag_service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := s.Answer(context.Background(), &fallbacks.Request{Reason: "open", Query: "q=tea", Body: []byte(`{"limit": 3}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(a.Body))
	// Output: {"limit": 3, "message": "no answer for tea: open"}
}
