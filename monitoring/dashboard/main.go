// Command dashboard prints the Grafana dashboard:
//
//	go run ./monitoring/dashboard >monitoring/grafana-dashboard.json
//
// panels.go defines the panels; this file converts them to Grafana's format.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

func main() {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(dashboard()); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

// object is a JSON object; its keys are printed in alphabetical order.
type object map[string]any

// panel is a panel of the dashboard. Width is in Grafana's 24 columns.
type panel struct {
	kind, title, description string
	unit                     string
	width, height            int
	queries                  []query
	fields                   object // field defaults that differ from Grafana's
	options                  object
}

// query is a PromQL expression with the legend of its series.
type query struct{ expr, legend string }

// row is a heading and the panels under it.
type row struct {
	title  string
	panels []panel
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

func dashboard() object {
	return object{
		"title":                "cbproxy",
		"uid":                  "cbproxy",
		"description":          "Circuit breakers, client outcomes and fallbacks.",
		"tags":                 []string{"cbproxy"},
		"schemaVersion":        39,
		"version":              1,
		"editable":             true,
		"graphTooltip":         1, // shared crosshair
		"refresh":              "30s",
		"timezone":             "",
		"time":                 object{"from": "now-3h", "to": "now"},
		"links":                []object{},
		"annotations":          object{"list": []object{openings}},
		"templating":           object{"list": []object{datasource, variable("instance"), variable("service")}},
		"panels":               layOut(rows),
		"fiscalYearStartMonth": 0,
	}
}

// openings annotates the times at which breakers opened.
var openings = object{
	"name": "Breaker opens", "datasource": source, "enable": true, "iconColor": "red",
	"expr":        `changes(cbproxy_state_changes_total{to="open", instance=~"$instance", service=~"$service"}[$__rate_interval]) > 0`,
	"titleFormat": "{{service}} opens", "textFormat": "{{instance}}", "step": "30s",
}

var datasource = object{
	"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
	"hide": 0, "includeAll": false, "multi": false, "refresh": 1, "regex": "", "options": []object{},
	"current": object{"selected": true, "text": "default", "value": "default"},
}

// variable is a dashboard variable with the values of a label.
func variable(label string) object {
	values := fmt.Sprintf("label_values(enhanced_circuit_breaker_state, %s)", label)
	return object{
		"name": label, "label": label, "type": "query", "datasource": source, "definition": values,
		"query": object{"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
		"hide":  0, "includeAll": true, "allValue": ".*", "multi": true, "refresh": 2, "sort": 1, "regex": "",
		"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}}, "options": []object{},
	}
}

// layOut assigns the panels their positions, from left to right and from top to bottom.
func layOut(rows []row) (placed []object) {
	id, y := 0, 0
	add := func(o object, x, w, h int) {
		id++
		o["id"], o["gridPos"] = id, object{"x": x, "y": y, "w": w, "h": h}
		placed = append(placed, o)
	}
	for _, r := range rows {
		add(object{"type": "row", "title": r.title, "collapsed": false, "panels": []object{}}, 0, 24, 1)
		y++
		x, height := 0, 0
		for _, p := range r.panels {
			if x+p.width > 24 {
				x, y, height = 0, y+height, 0
			}
			add(p.object(), x, p.width, p.height)
			x, height = x+p.width, max(height, p.height)
		}
		y += height
	}
	return placed
}

func (p panel) object() object {
	targets := make([]object, len(p.queries))
	for i, q := range p.queries {
		targets[i] = object{
			"refId": string(rune('A' + i)), "datasource": source, "editorMode": "code", "expr": q.expr, "legendFormat": q.legend,
			"range": p.kind != "stat", "instant": p.kind == "stat",
			"exemplar": strings.Contains(q.expr, "enhanced_circuit_breaker_response_time_seconds_bucket"), // the only metric with exemplars, if tracing is on
		}
	}
	fields := object{"unit": p.unit}
	for key, value := range p.fields {
		fields[key] = value
	}
	return object{
		"type": p.kind, "title": p.title, "description": p.description, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": fields, "overrides": []object{}}, "options": p.options,
	}
}
