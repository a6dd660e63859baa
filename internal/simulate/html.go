package simulate

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"time"

	"cbproxy/internal/events"
)

//go:embed page.html
var pageFile string

var page = template.Must(template.New("page").Parse(pageFile))

// The size of a chart in the units of page.html.
const (
	chartWidth  = 1000
	chartTop    = 12
	chartHeight = 150
	chartBars   = 250
	chartTicks  = 6
)

// pageService is the part of the page for one service.
type pageService struct {
	*ServiceReport
	Name, From, To string
	Charts         []chart
	Bars           []bar
	Most           int // calls in the highest bar
	Step           time.Duration
	Ticks          []mark
}

// chart is the part of the page for one configuration.
type chart struct {
	Name, OpenFor, First string
	Result               *Result
	Shades               []mark
}

// bar is the calls in a part of the time, in parts by their result from the bottom up.
type bar struct {
	Title string
	Parts []mark
}

// mark is something in a chart.
type mark struct {
	Class, Title, Anchor string
	X, Y, Width, Height  float64
}

// WriteHTML writes the report as a page that needs no other file. record has the calls of the report. configs are the names of the
// configuration and of the one that it is compared with.
func (r *Report) WriteHTML(w io.Writer, record Record, config, against string) error {
	var services []pageService
	for _, name := range slices.Sorted(maps.Keys(r.Services)) {
		s := r.Services[name]
		p := pageService{ServiceReport: s, Name: name, From: formatTime(s.first), To: formatTime(s.last)}
		p.Charts = append(p.Charts, s.chart(config, s.Config))
		if s.Against != nil {
			p.Charts = append(p.Charts, s.chart(against, s.Against))
		}
		p.setBars(record[name])
		services = append(services, p)
	}
	return page.Execute(w, services)
}

// chart returns the chart of a result.
func (s *ServiceReport) chart(name string, r *Result) chart {
	c := chart{Name: name, Result: r, OpenFor: r.openFor().String(), First: "-"}
	if r.FirstOpening != nil {
		c.First = formatTime(*r.FirstOpening)
	}
	for i, t := range r.Transitions {
		end, until := s.last, "the end"
		if i+1 < len(r.Transitions) {
			end = r.Transitions[i+1].Time
			until = formatTime(end)
		}
		if t.To == events.Closed {
			continue
		}
		x := s.place(t.Time)
		c.Shades = append(c.Shades, mark{
			Class: t.To.String(), X: x, Width: max(s.place(end)-x, 1),
			Title: fmt.Sprintf("%s by %s from %s to %s", t.To, t.Cause, formatTime(t.Time), until),
		})
	}
	return c
}

// place returns where a time is in a chart.
func (s *ServiceReport) place(at time.Time) float64 {
	return round(min(max(float64(at.Sub(s.first))/float64(max(s.last.Sub(s.first), 1)), 0), 1) * chartWidth)
}

// round returns x with two decimals, which is enough for a coordinate.
func round(x float64) float64 { return float64(int(x*100+0.5)) / 100 }

// setBars sets the bars of the chart, which are the same for each configuration, and its ticks.
func (p *pageService) setBars(calls []Call) {
	total := max(p.last.Sub(p.first), time.Nanosecond)
	p.Step = max(total/chartBars+1, time.Nanosecond)
	if p.Step > time.Second {
		p.Step = p.Step.Round(100 * time.Millisecond)
	}
	type counts struct{ good, bad, none int }
	bars := map[int]*counts{}
	for i := range calls {
		n := int(calls[i].Time().Sub(p.first) / p.Step)
		if bars[n] == nil {
			bars[n] = new(counts)
		}
		switch calls[i].Result() {
		case events.ResultSuccess:
			bars[n].good++
		case events.ResultFailure:
			bars[n].bad++
		default:
			bars[n].none++
		}
	}
	for _, b := range bars {
		p.Most = max(p.Most, b.good+b.bad+b.none)
	}
	for _, n := range slices.Sorted(maps.Keys(bars)) {
		b, at := bars[n], p.first.Add(time.Duration(n)*p.Step)
		x := p.place(at)
		next := bar{Title: fmt.Sprintf("%s: %d succeeded, %d failed, %d not made or cancelled", formatTime(at), b.good, b.bad, b.none)}
		bottom := float64(chartTop + chartHeight)
		for _, part := range []struct {
			class string
			calls int
		}{{"bad", b.bad}, {"good", b.good}, {"none", b.none}} {
			if part.calls == 0 {
				continue
			}
			height := float64(part.calls) / float64(p.Most) * chartHeight
			bottom -= height
			next.Parts = append(next.Parts, mark{Class: part.class, X: x, Y: round(bottom), Width: round(max(p.place(at.Add(p.Step))-x, 0.5)), Height: round(height)})
		}
		p.Bars = append(p.Bars, next)
	}
	for i := range chartTicks {
		at := p.first.Add(total * time.Duration(i) / (chartTicks - 1))
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case chartTicks - 1:
			anchor = "end"
		}
		p.Ticks = append(p.Ticks, mark{Title: formatTime(at), X: p.place(at), Anchor: anchor})
	}
}
