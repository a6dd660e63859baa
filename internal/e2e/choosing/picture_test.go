package choosing

import (
	"fmt"
	"strings"
	"time"
)

// kinds are the kinds of outcomes that the summary and the picture tell apart, from the bottom of a bar to its top. Their colours can be
// told apart on a light and on a dark page.
var kinds = []struct {
	name, colour string
	includes     func(outcome string) bool
}{
	{"answered", "#2da44e", func(o string) bool { return o == answered }},
	{"failed or timed out", "#e5534b", func(o string) bool { return o != answered && !isRejection(o) }},
	{"fallback at once", "#9aa4ae", isRejection},
}

// isRejection reports whether outcome is the reason of a fallback that answered without a call of the upstream.
func isRejection(outcome string) bool {
	switch outcome {
	case "open", "half_open_limit", "throttled", "recovering", "overload":
		return true
	}
	return false
}

// The measures of a picture, in pixels.
const (
	labelWidth, barsWidth = 110, 560
	legendHeight          = 30
	barsHeight, stripGap  = 60, 16
	axisHeight            = 20
)

// picture returns an SVG of the runs: a strip of bars for each configuration, one bar for each row of the recording.
func (s *scenario) picture(runs map[string]*run) string {
	var b strings.Builder
	most := 0
	for _, row := range runs[s.configs[0]].rows {
		most = max(most, row.calls)
	}
	rows := len(runs[s.configs[0]].rows)
	bottom := legendHeight + len(s.configs)*(barsHeight+stripGap) - stripGap
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#768390">`+"\n",
		labelWidth+barsWidth+10, bottom+axisHeight)
	for i, k := range kinds {
		x := labelWidth + i*160
		fmt.Fprintf(&b, `<rect x="%d" y="6" width="12" height="12" fill="%s"/><text x="%d" y="16">%s</text>`+"\n", x, k.colour, x+17, k.name)
	}
	step := float64(barsWidth) / float64(rows)
	for i, name := range s.configs {
		base := float64(legendHeight + i*(barsHeight+stripGap) + barsHeight)
		fmt.Fprintf(&b, `<text x="%d" y="%.0f" text-anchor="end">%s</text>`+"\n", labelWidth-10, base-4, name)
		for j, row := range runs[name].rows {
			y := base
			for _, k := range kinds {
				if n := row.count(k.includes); n > 0 {
					height := barsHeight * float64(n) / float64(most)
					y -= height
					fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", labelWidth+float64(j)*step, y, step-3, height, k.colour)
				}
			}
		}
	}
	unit, name := s.unit()
	for j := range rows {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%d %s</text>`+"\n", labelWidth+float64(j)*step, bottom+15, time.Duration(j)*s.row/unit, name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
