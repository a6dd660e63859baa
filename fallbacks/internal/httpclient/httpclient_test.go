//go:build unix

package httpclient_test

import (
	"net/http"
	"syscall"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
)

// A request for which this machine has no descriptor is counted, and is no failure of the server.
func TestLocalErrorsAreReported(t *testing.T) {
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":200}`)) })
	for strategy, options := range map[string]string{"upstream": ", breaker: {fail_max: 1}", "http": ""} {
		config, err := fallbacktest.ParseFallback("try: [" + strategy + "]\n" + strategy + ": {url: '" + s.URL + "'" + options + "}")
		if err != nil {
			t.Fatal(err)
		}
		var reported []events.LocalError
		env := fallbacktest.NewProcess().Env()
		env.ReportLocalError = func(kind events.LocalError, err error) {
			if err != nil {
				reported = append(reported, kind)
			}
		}
		c := fallbacktest.NewChain(t, strategy, config.Fallbacks["x_service"].Strategies[strategy], env)
		c.Start()
		t.Cleanup(c.Close)
		err = withoutDescriptors(t, func() error { _, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); return err })
		if err == nil || len(reported) != 1 || reported[0] != events.LocalDescriptors {
			t.Errorf("%s: %v, reported %v", strategy, err, reported)
		}
		if b, ok := c.Strategy(strategy).(fallbacks.BreakerReporter); ok && b.BreakerState() != events.Closed {
			t.Errorf("%s: breaker %v", strategy, b.BreakerState())
		}
		if _, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); err != nil || len(reported) != 1 {
			t.Errorf("%s, with descriptors: %v, reported %v", strategy, err, reported)
		}
	}
}

// withoutDescriptors calls f while the process can't open files or connections.
func withoutDescriptors(t *testing.T, f func() error) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}
