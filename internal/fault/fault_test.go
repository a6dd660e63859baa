package fault_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
)

// closeRecorder is a body that records that it was closed.
type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

// drawn returns the fault of a set with a fault of one kind.
func drawn(t *testing.T, kind events.FaultKind) (*fault.Set, *fault.Fault) {
	s := fault.NewSet("svc", new(eventLog).publish, nil)
	t.Cleanup(func() { s.Close(events.FaultShutdown) })
	f := newFault(kind, time.Hour)
	f.Status = 0
	if kind == events.FaultAbort {
		f.Status = 418
	}
	mustStart(t, s, f)
	return s, s.Draw(nil)
}

// errorType returns the failure that err, the error of an injected fault, reports.
func errorType(err error) events.ErrorType {
	var typed interface{ ErrorType() events.ErrorType }
	if !errors.As(err, &typed) {
		return ""
	}
	return typed.ErrorType()
}

func notSent(t *testing.T) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		t.Error("the request was sent")
		return nil, errors.New("sent")
	}
}

func TestNoFaultSendsTheRequest(t *testing.T) {
	r, _ := http.NewRequest("GET", "http://upstream.invalid/", nil)
	want := new(http.Response)
	var none *fault.Fault
	if got, err := none.RoundTrip(r, func(*http.Request) (*http.Response, error) { return want, nil }); got != want || err != nil {
		t.Error(got, err)
	}
	if text := none.Describe("text"); text != "text" {
		t.Error(text)
	}
}

func TestAbortReadsOnlyShortBodies(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		length int64
		expect string
		unread int
	}{
		"none":           {0, 0, "", 0},
		"short":          {64 << 10, 64 << 10, "", 0},
		"long":           {64<<10 + 1, 64<<10 + 1, "", 64<<10 + 1},
		"unknown length": {10, -1, "", 10},
		"expectation":    {10, 10, "100-continue", 10},
	} {
		s, f := drawn(t, events.FaultAbort)
		body := &closeRecorder{Reader: strings.NewReader(strings.Repeat("x", c.size))}
		r, _ := http.NewRequest("POST", "http://upstream.invalid/", body)
		if r.ContentLength = c.length; c.expect != "" {
			r.Header.Set("Expect", c.expect)
		}
		res, err := f.RoundTrip(r, notSent(t))
		if err != nil {
			t.Fatal(name, err)
		}
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode != 418 || !strings.Contains(string(text), f.ID) || int64(len(text)) != res.ContentLength || !body.closed {
			t.Errorf("%s: %+v, %q, closed %t", name, res, text, body.closed)
		}
		if rest, _ := io.ReadAll(body.Reader); len(rest) != c.unread {
			t.Errorf("%s: %d bytes are unread, want %d", name, len(rest), c.unread)
		}
		if n := s.Status().Injected[events.FaultAbort]; n != 1 {
			t.Errorf("%s: %d faults counted", name, n)
		}
	}
}

func TestAbortWithoutBody(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		length int
	}{{"HEAD", 503, 0}, {"GET", 204, 0}, {"GET", 304, 0}} {
		s := fault.NewSet("svc", new(eventLog).publish, nil)
		f := newFault(events.FaultAbort, time.Hour)
		f.Status = c.status
		mustStart(t, s, f)
		r, _ := http.NewRequest(c.method, "http://upstream.invalid/", nil)
		res, err := s.Draw(nil).RoundTrip(r, notSent(t))
		if err != nil || res.StatusCode != c.status || res.Body != http.NoBody || (res.Header["Content-Length"] != nil) != (c.method == "HEAD") {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		s.Close(events.FaultShutdown)
	}
}

func TestAbortReportsAnIncompleteUpload(t *testing.T) {
	_, f := drawn(t, events.FaultAbort)
	errClient := errors.New("the client is gone")
	r, _ := http.NewRequest("POST", "http://upstream.invalid/", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errClient)))
	r.ContentLength = 2
	if _, err := f.RoundTrip(r, notSent(t)); !errors.Is(err, errClient) {
		t.Error(err)
	}
}

func TestResetFailsLikeAReset(t *testing.T) {
	s, f := drawn(t, events.FaultReset)
	body := &closeRecorder{Reader: strings.NewReader("x")}
	r, _ := http.NewRequest("POST", "http://upstream.invalid/", body)
	_, err := f.RoundTrip(r, notSent(t))
	if errorType(err) != events.ErrorReset || !strings.Contains(err.Error(), "injected fault "+f.ID+" (reset)") || !body.closed {
		t.Errorf("%v, closed %t", err, body.closed)
	}
	if n := s.Status().Injected[events.FaultReset]; n != 1 {
		t.Errorf("%d faults counted", n)
	}
}

func TestCutEndsTheBodyEarly(t *testing.T) {
	const text = "0123456789"
	for name, c := range map[string]struct {
		method string
		status int
		body   io.Reader
		length int64
		want   string
		cut    bool
	}{
		"known length":            {"GET", 200, strings.NewReader(text), 10, "01234", true},
		"one byte":                {"GET", 200, strings.NewReader("0"), 1, "", true},
		"first part":              {"GET", 200, io.MultiReader(strings.NewReader("0123"), strings.NewReader("4567")), -1, "0123", true},
		"first part is the whole": {"GET", 200, iotest.DataErrReader(strings.NewReader(text)), -1, text, true},
		"empty, unknown length":   {"GET", 200, strings.NewReader(""), -1, "", true},
		"no content":              {"GET", 204, strings.NewReader(""), -1, "", false},
		"length 0":                {"GET", 200, strings.NewReader(""), 0, "", false},
		"HEAD":                    {"HEAD", 200, strings.NewReader(""), 10, "", false},
	} {
		s, f := drawn(t, events.FaultCut)
		upstream := &closeRecorder{Reader: c.body}
		r, _ := http.NewRequest(c.method, "http://upstream.invalid/", nil)
		res, err := f.RoundTrip(r, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: c.status, ContentLength: c.length, Body: upstream}, nil
		})
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(res.Body)
		if string(got) != c.want || (err != nil) != c.cut || c.cut && (errorType(err) != events.ErrorTruncated || !upstream.closed) {
			t.Errorf("%s: %q, %v, closed %t", name, got, err, upstream.closed)
		}
		if n := s.Status().Injected[events.FaultCut]; (n == 1) != c.cut {
			t.Errorf("%s: %d faults counted", name, n)
		}
		if _, again := res.Body.Read(make([]byte, 1)); c.cut && errorType(again) != events.ErrorTruncated {
			t.Errorf("%s: a later read returns %v", name, again)
		}
	}
}

func TestCutReturnsErrorsOfTheUpstream(t *testing.T) {
	_, f := drawn(t, events.FaultCut)
	errUpstream := errors.New("connection refused")
	r, _ := http.NewRequest("GET", "http://upstream.invalid/", nil)
	if _, err := f.RoundTrip(r, func(*http.Request) (*http.Response, error) { return nil, errUpstream }); err != errUpstream {
		t.Error(err)
	}
	res, _ := f.RoundTrip(r, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: 10, Body: io.NopCloser(iotest.ErrReader(errUpstream))}, nil
	})
	if _, err := io.ReadAll(res.Body); err != errUpstream {
		t.Error(err)
	}
}
