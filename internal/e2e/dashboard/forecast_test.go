package dashboard

import (
	"fmt"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"cbproxy/internal/e2e/harness"
)

// withForecast makes the page believe that the API has this forecast for each service, if window.forecast is not set to another.
func withForecast(forecast string) chromedp.Action[chromedp.Void] {
	return callWith(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `
		window.forecast = ` + forecast + `;
		const realFetch = window.fetch;
		window.fetch = async (url, options) => {
			const response = await realFetch(url, options);
			if (!String(url).includes("trends")) return response;
			const body = await response.json();
			for (const service of Object.values(body.services)) service.forecast = window.forecast;
			return new Response(JSON.stringify(body), { headers: { "Content-Type": "application/json" } });
		};`})
}

// forecastOf is a forecast with two errors of the prediction for 5 minutes.
const forecastOf = `{
	time: "2026-11-29T17:00:05Z", success_ratio: { "1m": 0.962, "5m": 0.981, "1h": 0.99 }, trend: -0.031,
	predictions: {
		"30s": { success_ratio: 0.944, error: 0.008, error_as_now: 0.014, latency_p95: 0.35, latency_error: 0.04, latency_error_as_now: 0.06 },
		"5m": { success_ratio: 0.9, error: %v, error_as_now: %v, latency_p95: 0.4, latency_error: 0.07, latency_error_as_now: 0.06 },
	},
	time_to_open: 212.5, reason: null,
}`

// predictedNames are the names of the predicted lines that are shown, and for how many seconds the charts show them.
const predictedNames = `[...document.querySelectorAll("#charts .u-series:last-child th")].filter((e) => e.innerText.includes("predicted") && e.checkVisibility({ visibilityProperty: true })).map((e) => e.innerText.replace(":", "").trim()).join(", ") + " " + document.querySelector("#charts").dataset.predicted`

// TestDashboardShowsForecast checks that the page shows the predictions for the chosen service in words and in the charts, and when its breaker may
// open on its card, and hides those that are worse than the assumption that nothing changes.
func TestDashboardShowsForecast(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(5, u.URL())})
	p.Get("/svc_00")
	d := openPage(p, withForecast(fmt.Sprintf(forecastOf, 0.03, 0.04)))
	d.waitTrue("the charts have points", `+document.querySelector("#charts").dataset.points > 0`)
	if text := d.text("#forecast"); text != "" {
		t.Errorf("for all services: %q", text)
	}
	d.waitText(card("svc_00")+" .badges", "may open in 3 min 33 s")
	choose := func(option string) {
		d.do(chromedp.Focus(chromedp.CSS("#chart-service")), chromedp.KeyEvent(option))
	}
	choose("svc_00")
	d.waitText("#forecast", "96.2 % of the calls in the last minute succeeded; predicted: 94.4 % in 30 s, 90.0 % in 5 min; falling by 3.1 points a minute; the breaker would open in 3 min 33 s.")
	d.waitTrue("the predicted lines have names", predictedNames+` === "p95 predicted, predicted 300"`)
	d.checkContrast("forecast")
	d.checkWidth("with a forecast", 400)

	evaluate[any](d, "(window.forecast = "+fmt.Sprintf(forecastOf, 0.05, 0.04)+") && 0")
	d.waitText("#forecast", "predicted: 94.4 % in 30 s; the prediction for 5 min is not shown, as it was off by 5.0 % lately, and “as now” by 4.0 %; falling")
	d.waitTrue("the lines are shorter", predictedNames+` === "p95 predicted, predicted 30"`)
	d.waitTrue("the card does not say when the breaker may open", `!document.querySelector("[data-service=svc_00] .badges").innerText.includes("may open")`)
	evaluate[any](d, `(Object.assign(window.forecast.predictions["30s"], { error: 0.05, latency_error: 0.07 })) && 0`)
	d.waitTrue("no predicted line is shown", predictedNames+` === " 0"`)
	if text := d.text("#forecast"); text == "" {
		t.Error("the text is hidden with the predictions")
	}
	evaluate[any](d, `(Object.assign(window.forecast, { reason: "few_calls", trend: null, time_to_open: null, success_ratio: { "1m": null, "5m": null, "1h": null } })) && 0`)
	d.waitText("#forecast", "Fewer than 10 calls in the last minute; no prediction: it needs 20 calls in 5 min.")
	choose("all")
	d.waitTrue("no text is shown for all services", `!document.querySelector("#forecast").checkVisibility()`)
}

// TestDashboardSaysWhyThereIsNoForecast checks what the page shows of the forecast of the API for a service that has just begun to get calls.
func TestDashboardSaysWhyThereIsNoForecast(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(5, u.URL())})
	for range 20 {
		p.Get("/svc_00")
	}
	d := openPage(p)
	d.waitTrue("the charts have points", `+document.querySelector("#charts").dataset.points > 0`)
	d.do(chromedp.Focus(chromedp.CSS("#chart-service")), chromedp.KeyEvent("svc_00"))
	d.waitText("#forecast", "100.0 % of the calls in the last minute succeeded; no prediction yet: it needs a minute of calls.")
	d.waitTrue("no predicted line is shown", predictedNames+` === " 0"`)
}
