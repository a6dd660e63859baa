package queue_test

import (
	"context"
	"fmt"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/queue"
)

// A process without queues gets no answer, and the chain tries the next strategy.
func Example() {
	s, err := queue.New(queue.DefaultOptions(), fallbacks.Env{Service: "notifier_service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = s.Answer(context.Background(), &fallbacks.Request{Method: "POST", Body: []byte("{}")})
	fmt.Println(err)
	// Output: the process has no queue
}
