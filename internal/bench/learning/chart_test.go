package learning

import (
	"fmt"
	"strings"
)

// chart is a picture with one line for each series over the same labels.
type chart struct {
	title  string // of the vertical axis, which goes from 0 to 100 %
	labels []string
	series []series
}

// series are values from 0 to 1, one for each label.
type series struct {
	name   string
	values []float64
}

// Colours that can be told apart on a light and on a dark page.
var colours = []string{"#e5534b", "#2da44e", "#d29922", "#316dca", "#986ee2", "#768390"}

// The measures of a chart, in pixels.
const (
	chartLeft, chartTop     = 50, 26
	chartWidth, chartHeight = 430, 200
	legendWidth             = 120
)

// svg returns the picture.
func (c *chart) svg() string {
	var b strings.Builder
	x := func(i int) float64 {
		return chartLeft + float64(chartWidth)*(float64(i)+0.5)/float64(len(c.labels))
	}
	y := func(v float64) float64 { return chartTop + chartHeight*(1-v) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#768390">`+"\n",
		chartLeft+chartWidth+legendWidth, chartTop+chartHeight+28)
	fmt.Fprintf(&b, `<text x="4" y="14">%s</text>`+"\n", c.title)
	for percent := 0; percent <= 100; percent += 25 {
		at := y(float64(percent) / 100)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#768390" stroke-opacity="0.3"/><text x="%d" y="%.1f" text-anchor="end">%d %%</text>`+"\n",
			chartLeft, at, chartLeft+chartWidth, chartLeft-6, at+4, percent)
	}
	for i, label := range c.labels {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), chartTop+chartHeight+18, label)
	}
	for i, s := range c.series {
		points := make([]string, len(s.values))
		for j, v := range s.values {
			points[j] = fmt.Sprintf("%.1f,%.1f", x(j), y(v))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[i])
		at := chartTop + 14 + i*18
		fmt.Fprintf(&b, `<path d="M%d %dh14" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s</text>`+"\n",
			chartLeft+chartWidth+8, at-4, colours[i], chartLeft+chartWidth+28, at, s.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
