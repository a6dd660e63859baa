package forecast_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"cbproxy/internal/events"
)

var update = flag.Bool("update", false, "rewrite the table in docs/predictions.md")

const page = "../../docs/predictions.md"

// meanErrors returns the errors of the forecasts of a series, averaged over hours and seeds: of the success ratio for each horizon, and
// of the latency. See events.ForecastError.
func meanErrors(s series) (errors [2 * len(events.ForecastHorizons)]events.ForecastError) {
	const seeds = 5
	readings := 0.0
	for seed := range uint64(seeds) {
		p := play(s, seed)
		for p.at < s.length {
			f := p.step()
			if p.at%time.Hour != 0 && p.at < s.length {
				continue
			}
			readings++
			for i, prediction := range f.Predictions {
				for j, e := range []events.ForecastError{prediction.SuccessRatioError, prediction.LatencyError} {
					mean := &errors[j*len(events.ForecastHorizons)+i]
					mean.Predicted, mean.AsNow = mean.Predicted+e.Predicted, mean.AsNow+e.AsNow
				}
			}
		}
	}
	for i := range errors {
		errors[i].Predicted /= readings
		errors[i].AsNow /= readings
	}
	return errors
}

// TestAccuracy checks where the predictions pay, and where they must at least do little harm, and that the table in docs/predictions.md has
// the errors of all series. With -update it writes them.
func TestAccuracy(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range allSeries {
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(s.name) + ` \|(.*)\|$`)
		documented := row.FindSubmatch(content)
		if documented == nil {
			t.Fatalf("no row of %q", s.name)
		}
		numbers := regexp.MustCompile(`\d\.\d+`).FindAll(documented[1], -1)
		line := "| " + s.name + " |"
		for i, e := range meanErrors(s) {
			if i < len(s.share) && e.Predicted > s.share[i]*e.AsNow+0.0005 {
				t.Errorf("%s, horizon %s: the error is %.4f, as now %.4f", s.name, events.ForecastHorizons[i].Name, e.Predicted, e.AsNow)
			}
			line += fmt.Sprintf(" %.3f / %.3f |", e.Predicted, e.AsNow)
			for j, got := range []float64{e.Predicted, e.AsNow} {
				if k := 2*i + j; !*update && (k >= len(numbers) || !near(got, string(numbers[k]))) {
					t.Errorf("%s: number %d is %.4f, documented is %s", s.name, k, got, documented[1])
				}
			}
		}
		if *update {
			content = row.ReplaceAll(content, []byte(line))
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(page, bytes.TrimLeft(content, "\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// near reports whether a number is the documented one. Floating-point arithmetic differs a little between processors.
func near(got float64, documented string) bool {
	want, err := strconv.ParseFloat(documented, 64)
	return err == nil && math.Abs(got-want) <= 0.001+0.02*want
}
