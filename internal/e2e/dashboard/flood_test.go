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

// However much happens, the page asks and draws some times a second, and keeps no more than the newest.
func TestDashboardBearsAFloodOfEvents(t *testing.T) {
	t.Parallel()
	p := brokenServices(t, 60)
	d := openPage(p)
	d.shows("#summary", "2 open, 1 half-open, 2 forced of 60 services")
	d.shows("#queue", "1 waiting")
	d.shows("#timeline", "svc_17")
	evaluate[int](d, `(() => {
		window.drawn = 0;
		new MutationObserver(() => drawn++).observe(document.querySelector("#timeline"), { childList: true });
		return 0;
	})()`)
	flood := func(states ...string) {
		t.Helper()
		begin := time.Now()
		evaluate[int](d, `(drawn = 0, performance.clearResourceTimings(), performance.setResourceTimingBufferSize(5000), 0)`)
		for _, state := range states {
			for i := 20; i < 60; i++ {
				p.Force(fmt.Sprintf("svc_%02d", i), `{"state":"`+state+`","reason":"flood"}`)
			}
		}
		d.shows("#summary", map[string]string{"open": "42 open", "closed": "2 open"}[states[len(states)-1]])
		d.becomes("all is told", `document.querySelector("#timeline li").innerText.includes("svc_59")`)
		most := int(time.Since(begin)/(250*time.Millisecond)) + 3
		if n := evaluate[int](d, `drawn`); n > most {
			t.Errorf("in %v it draws what happened %d times", time.Since(begin), n)
		}
		if n := evaluate[int](d, `performance.getEntriesByType("resource").filter((e) => !/trends|history/.test(e.name)).length`); n > most {
			t.Errorf("in %v it asks %d times", time.Since(begin), n)
		}
		if n := evaluate[int](d, `document.querySelectorAll("#timeline li").length`); n > 300 {
			t.Errorf("it shows %d things that happened", n)
		}
	}
	flood("closed", "open", "closed", "open", "closed")
	nodes, heap := d.kept()
	flood("open", "closed", "open", "closed", "open", "closed", "open", "closed")
	nodesLater, heapLater := d.kept()
	if nodesLater > nodes+nodes/10 || heapLater > heap+heap/3 {
		t.Errorf("it kept %d nodes and %.0f bytes, and later %d and %.0f", nodes, heap, nodesLater, heapLater)
	}
	t.Logf("it kept %d nodes and %.0f bytes, and later %d and %.0f", nodes, heap, nodesLater, heapLater)
}

// kept are the nodes that the page keeps, shown or not, and the bytes of its scripts.
func (d *page) kept() (nodes int64, heap float64) {
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
