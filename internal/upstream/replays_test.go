package upstream

import "testing"

func TestReplayLimit(t *testing.T) {
	type conn struct {
		newAttempt, multiplexed bool
		want                    error
	}
	http1, http2 := conn{}, conn{multiplexed: true}
	for name, conns := range map[string][]conn{
		"one replay over HTTP/1.1":         {http1, http1, {want: ErrReplayed}},
		"one replay in all attempts":       {http1, http1, {newAttempt: true}, {want: ErrReplayed}},
		"attempts without a replay":        {http1, {newAttempt: true}, {newAttempt: true}, http1, {want: ErrReplayed}},
		"unprocessed over HTTP/2":          {http2, http2, http2, http2, {multiplexed: true, want: ErrUnprocessed}},
		"separate HTTP/2 attempts":         {http2, http2, http2, http2, {newAttempt: true, multiplexed: true}, http2},
		"HTTP/2 does not use up the limit": {http2, http2, {newAttempt: true}, http1, {want: ErrReplayed}},
	} {
		var limit ReplayLimit
		for i, c := range conns {
			if c.newAttempt {
				limit.BeginAttempt()
				if limit.Connected() {
					t.Errorf("%s: connected before connection %d", name, i)
				}
			}
			if err := limit.GotConn(c.multiplexed); err != c.want || !limit.Connected() {
				t.Errorf("%s: connection %d: %v, want %v", name, i, err, c.want)
			}
		}
	}
}
