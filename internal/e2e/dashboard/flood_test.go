package dashboard

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// TestDashboardLimitsWorkAndMemoryUnderLoad checks that many events cause only a few requests and updates per second, and that
// the page does not accumulate entries.
func TestDashboardLimitsWorkAndMemoryUnderLoad(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 60)
	d := openPage(p)
	d.waitText("#summary", "2 open, 1 half-open, 2 forced of 60 services")
	d.waitText("#queue", "1 waiting")
	d.waitText("#timeline", "svc_17")
	evaluate[int](d, `(() => {
		window.draws = 0;
		new MutationObserver(() => draws++).observe(document.querySelector("#timeline"), { childList: true });
		return 0;
	})()`)
	flood := func(states ...string) {
		t.Helper()
		start := time.Now()
		evaluate[int](d, `(draws = 0, performance.clearResourceTimings(), performance.setResourceTimingBufferSize(5000), 0)`)
		for _, state := range states {
			for i := 20; i < 60; i++ {
				p.Force(fmt.Sprintf("svc_%02d", i), `{"state":"`+state+`","reason":"flood"}`)
			}
		}
		d.waitText("#summary", map[string]string{"open": "42 open", "closed": "2 open"}[states[len(states)-1]])
		d.waitTrue("the last event is shown", `document.querySelector("#timeline li").innerText.includes("svc_59")`)
		limit := int(time.Since(start)/(250*time.Millisecond)) + 3
		if n := evaluate[int](d, `draws`); n > limit {
			t.Errorf("in %v the timeline is drawn %d times", time.Since(start), n)
		}
		if n := evaluate[int](d, `performance.getEntriesByType("resource").filter((e) => !/trends|history/.test(e.name)).length`); n > limit {
			t.Errorf("in %v the page sends %d requests", time.Since(start), n)
		}
		if n := evaluate[int](d, `document.querySelectorAll("#timeline li").length`); n > 300 {
			t.Errorf("the timeline has %d entries", n)
		}
	}
	flood("closed", "open", "closed", "open", "closed")
	nodes, heap := d.memory()
	flood("open", "closed", "open", "closed", "open", "closed", "open", "closed")
	nodesLater, heapLater := d.memory()
	if nodesLater > nodes+nodes/10 || heapLater > heap+heap/3 {
		t.Errorf("first %d nodes and %.0f bytes, later %d and %.0f", nodes, heap, nodesLater, heapLater)
	}
	t.Logf("first %d nodes and %.0f bytes, later %d and %.0f", nodes, heap, nodesLater, heapLater)
}

// memory returns the number of DOM nodes, including detached ones, and the size of the JavaScript heap in bytes.
func (d *page) memory() (nodes int64, heap float64) {
	d.t.Helper()
	d.do(call(heapprofiler.CollectGarbage), call(heapprofiler.CollectGarbage), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		counters, err := cdp.Call(ctx, t, memory.GetDOMCounters, cdp.Empty{})
		if err != nil {
			return err
		}
		usage, err := cdp.Call(ctx, t, runtime.GetHeapUsage, cdp.Empty{})
		nodes, heap = counters.Nodes, usage.UsedSize
		return err
	}))
	return nodes, heap
}
