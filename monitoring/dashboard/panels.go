package main

// selected selects series by the dashboard's variables.
const selected = `instance=~"$instance", service=~"$service"`

// rows are the rows of the dashboard.
var rows = []row{
	{"Now", []panel{
		stat("Open", "Breakers that are open.", "short", `sum(enhanced_circuit_breaker_state{`+selected+`} == bool 1)`, "red"),
		stat("Half-open", "Breakers that are probing.", "short", `sum(enhanced_circuit_breaker_state{`+selected+`} == bool 2)`, "yellow"),
		stat("Forced", "Breakers that an operator has forced.", "short", `sum(cbproxy_forced{`+selected+`})`, "yellow"),
		stat("Requests", "Requests from clients, per second.", "reqps", `sum(rate(enhanced_circuit_breaker_requests_total{`+selected+`}[$__rate_interval]))`, ""),
		stat("Queued", "Requests answered with 202 that are not delivered yet.", "short", `sum(cbproxy_queue_depth{`+selected+`})`, ""),
		stat("Dead letters", "Requests answered with 202 that could not be delivered.", "short", `sum(cbproxy_queue_dead{`+selected+`})`, "red"),
		timeline("State", "", 24, `enhanced_circuit_breaker_state{`+selected+`}`),
	}},
	{"Client outcomes", []panel{
		graph("Outcomes", "Requests by outcome. Failures and rejections include those answered by a fallback.", "reqps",
			query{`sum by (status) (rate(enhanced_circuit_breaker_requests_total{` + selected + `}[$__rate_interval]))`, "{{status}}"}),
		graph("Not answered by the upstream", "Share of requests that failed or were rejected: the error ratio without fallbacks.", "percentunit",
			query{`service:cbproxy_failed:ratio_rate5m{service=~"$service"}`, "{{service}}"}),
		graph("Not answered at all", "Share of requests with neither a response nor a fallback: the error ratio that clients see.", "percentunit",
			query{`service:cbproxy_unanswered:ratio_rate5m{service=~"$service"}`, "{{service}}"}),
		graph("Error budget burn rate", "Error rate relative to the objective; above 1 the budget will be used up.", "none",
			query{`service:cbproxy_unanswered:burn_rate1h{service=~"$service"}`, "{{service}} 1h"},
			query{`service:cbproxy_unanswered:burn_rate6h{service=~"$service"}`, "{{service}} 6h"},
			query{`service:cbproxy_unanswered:burn_rate3d{service=~"$service"}`, "{{service}} 3d"},
			query{`service:cbproxy_slow:burn_rate1h{service=~"$service"}`, "{{service}} slow, 1h"},
			query{`service:cbproxy_failed:burn_rate1h{service=~"$service"}`, "{{service}} without fallbacks, 1h"},
			query{`service:cbproxy_failed:burn_rate6h{service=~"$service"}`, "{{service}} without fallbacks, 6h"}),
		graph("Fallbacks by strategy", "", "reqps",
			query{`sum by (service, strategy) (rate(enhanced_circuit_breaker_fallbacks_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}} {{strategy}}"}),
		graph("Fallbacks by reason", "", "reqps",
			query{`sum by (service, reason) (rate(enhanced_circuit_breaker_fallbacks_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}} {{reason}}"}),
		graph("Share of fallbacks", "Share of requests that a fallback answered.", "percentunit",
			query{`service:cbproxy_fallbacks:ratio_rate5m{service=~"$service"}`, "{{service}}"}),
	}},
	{"Upstreams", []panel{
		graph("Response time, p50", "Requests sent to the upstream.", "s", quantile("0.5")),
		graph("Response time, p95", "", "s", quantile("0.95")),
		graph("Response time, p99", "", "s", quantile("0.99")),
		graph("Failures by type", "Failed attempts and probes.", "ops",
			query{`sum by (service, error_type) (rate(enhanced_circuit_breaker_failures_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}} {{error_type}}"}),
		graph("Failure rate", "Failure rate of upstream calls.", "percentunit",
			query{`sum by (service) (rate(enhanced_circuit_breaker_requests_total{` + selected + `, status="failure"}[$__rate_interval]))
  / (sum by (service) (rate(enhanced_circuit_breaker_requests_total{` + selected + `, status=~"success|failure"}[$__rate_interval])) > 0)`, "{{service}}"}),
		graph("Distance to opening", "Consecutive failures and failure ratio, relative to the limits that open the breaker.", "percentunit",
			query{`max by (service) (cbproxy_consecutive_failures{` + selected + `} / (cbproxy_consecutive_failures_limit{` + selected + `} > 0))`, "{{service}} consecutive failures"},
			query{`max by (service) (cbproxy_failure_ratio{` + selected + `} / (cbproxy_failure_ratio_limit{` + selected + `} > 0))`, "{{service}} failure ratio"}),
		graph("Attempts and retries", "Requests sent to the upstream, and retries among them.", "reqps",
			query{`sum by (service) (rate(cbproxy_upstream_attempts_total{` + selected + `}[$__rate_interval]))`, "{{service}} attempts"},
			query{`sum by (service) (rate(cbproxy_upstream_retries_total{` + selected + `}[$__rate_interval]))`, "{{service}} retries"},
			query{`sum by (service) (rate(cbproxy_retry_budget_spent_total{` + selected + `}[$__rate_interval]))`, "{{service}} not retried, budget exhausted"}),
		graph("In flight", "Requests in flight, and the limits on them that are in force: max_in_flight, or what auto has found.", "short",
			query{`sum by (service) (cbproxy_requests_in_flight{` + selected + `})`, "{{service}}"},
			query{`sum by (service) (cbproxy_concurrency_limit{` + selected + `})`, "{{service}} limit"}),
		graph("Rejected by limits, and in shadow mode", "Requests rejected by max_in_flight, and requests that shadow mode would have rejected.", "reqps",
			query{`sum by (service, limit) (rate(cbproxy_requests_shed_total{` + selected + `}[$__rate_interval]))`, "{{service}} limit of {{limit}}"},
			query{`sum by (service, reason) (rate(cbproxy_shadow_rejections_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}} shadow, {{reason}}"}),
		graph("Rejected, by reason", "Requests that the breaker or a limit rejected, with a fallback or without.", "reqps",
			query{`sum by (service, reason) (rate(cbproxy_requests_rejected_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}} {{reason}}"}),
		graph("Throttled, and let through while recovering", "Share of requests that the algorithm throttle rejects, and share that is let through after the breaker has closed.", "percentunit",
			query{`avg by (service) (cbproxy_rejection_ratio{` + selected + `})`, "{{service}} rejected"},
			query{`avg by (service) (cbproxy_admitted_ratio{` + selected + `})`, "{{service}} let through"}),
		graph("Algorithms", "Instances by the algorithm of a service.", "short",
			query{`count by (service, algorithm) (cbproxy_breaker_algorithm{` + selected + `})`, "{{service}} {{algorithm}}"}),
		graph("Expression errors", "Evaluations of open_when and failure_when that failed; they count as false.", "ops",
			query{`sum by (service) (rate(cbproxy_expression_errors_total{` + selected + `}[$__rate_interval]))`, "{{service}}"}),
		graph("Injected faults", "Requests to the upstream that an injected fault has hit, and faults in force.", "short",
			query{`sum by (service, kind) (rate(cbproxy_faults_injected_total{` + selected + `}[$__rate_interval]))`, "{{service}} {{kind}} per second"},
			query{`sum by (service) (cbproxy_faults_active{` + selected + `})`, "{{service}} in force"}),
		graph("State changes", "", "short",
			query{`sum by (service, to) (increase(cbproxy_state_changes_total{` + selected + `}[$__rate_interval]))`, "{{service}} to {{to}}"}),
		graph("Active probes", "", "ops",
			query{`sum by (service, result) (rate(cbproxy_probes_total{` + selected + `}[$__rate_interval]))`, "{{service}} {{result}}"}),
		timeline("Fallback upstreams", "Breakers of fallback upstreams (strategy upstream).", 8, `cbproxy_fallback_upstream_state{`+selected+`}`),
	}},
	{"Endpoints", []panel{
		graph("Endpoints that get requests", "1 if the endpoint gets requests on all instances, 0 if all have ejected it.", "none",
			query{`avg by (service, endpoint) (cbproxy_endpoint_up{` + selected + `})`, "{{service}} {{endpoint}}"}),
		graph("Share of ejected endpoints", "At the instance that has ejected most.", "percentunit",
			query{`max by (service) (1 - avg by (service, instance) (cbproxy_endpoint_up{` + selected + `}))`, "{{service}}"}),
		graph("Ejections", "", "short",
			query{`sum by (service, endpoint) (increase(cbproxy_endpoint_ejections_total{` + selected + `}[$__rate_interval]))`, "{{service}} {{endpoint}}"}),
		graph("Health checks", "Checks of endpoints by probe.always.", "ops",
			query{`sum by (service, result) (rate(cbproxy_health_checks_total{` + selected + `}[$__rate_interval]))`, "{{service}} {{result}}"}),
		graph("In flight, by endpoint", "Attempts in flight.", "short",
			query{`sum by (service, endpoint) (cbproxy_endpoint_in_flight{` + selected + `})`, "{{service}} {{endpoint}}"}),
		graph("Hedges", "Second attempts that were sent because the first had not been answered, by whether their response was used.", "reqps",
			query{`sum by (service, result) (rate(cbproxy_hedges_total{` + selected + `}[$__rate_interval]))`, "{{service}} {{result}}"}),
		graph("Share of hedges, and of hedges that won", "Hedges per attempt, and the share of the hedges whose response was used.", "percentunit",
			query{`sum by (service) (rate(cbproxy_hedges_total{` + selected + `}[$__rate_interval]))
  / (sum by (service) (rate(cbproxy_upstream_attempts_total{` + selected + `}[$__rate_interval])) > 0)`, "{{service}} hedged"},
			query{`sum by (service) (rate(cbproxy_hedges_total{` + selected + `, result="won"}[$__rate_interval]))
  / (sum by (service) (rate(cbproxy_hedges_total{` + selected + `}[$__rate_interval])) > 0)`, "{{service}} won"}),
	}},
	{"Learning", []panel{
		graph("Evidence", "Evidence that the upstream is not healthy, at the instance that has most. The breaker opens at 100 %, in shadow mode it only reports.", "percentunit",
			query{`max by (service) (cbproxy_adaptive_evidence_ratio{` + selected + `})`, "{{service}}"}),
		graph("Failure ratio of the healthy upstream", "Largest failure ratio of a healthy upstream, as the instances have learnt it.", "percentunit",
			query{`max by (service) (cbproxy_baseline_failure_ratio{` + selected + `})`, "{{service}} largest"},
			query{`min by (service) (cbproxy_baseline_failure_ratio{` + selected + `})`, "{{service}} smallest"}),
		graph("Latency of the healthy upstream", "Quantiles of the durations that the instances have learnt, at the instance with the largest.", "s",
			query{`max by (service, quantile) (cbproxy_baseline_latency_seconds{` + selected + `})`, "{{service}} {{quantile}}"}),
		graph("Openings by the evidence, by verdict", "Since the start of an instance or the reset of its baseline. Refuted: the first probe succeeded.", "short",
			query{`sum by (service, verdict) (cbproxy_adaptive_openings_total{` + selected + `})`, "{{service}} {{verdict}}"}),
		graph("Modes of learning", "Instances by the mode in force, and those in shadow mode because too many openings were refuted.", "short",
			query{`sum by (service, mode) (cbproxy_adaptive_mode{` + selected + `})`, "{{service}} {{mode}}"},
			query{`sum by (service) (cbproxy_adaptive_demoted{` + selected + `})`, "{{service}} demoted"}),
		graph("Overridden keys", "Instances on which an operator has overridden a key for a time.", "short",
			query{`sum by (service, key) (cbproxy_overridden{` + selected + `})`, "{{service}} {{key}}"}),
	}},
	// Nothing acts on the predictions. The worst instance is shown, because each one predicts for its own calls.
	{"Forecast", []panel{
		graph("Success ratio", "Share of successes of the requests to the upstream, of the worst instance.", "percentunit",
			query{`min by (service, window) (cbproxy_success_ratio{` + selected + `})`, "{{service}} {{window}}"}),
		graph("Success ratio, predicted", "Of the worst instance. No line while its breaker is not closed, or with few requests.", "percentunit",
			query{`min by (service, horizon) (cbproxy_success_ratio_predicted{` + selected + `})`, "{{service}} in {{horizon}}"}),
		signed(graph("Trend of the success ratio", "Change that is predicted for the next minute, of the worst instance.", "percentunit",
			query{`min by (service) (cbproxy_success_ratio_trend{` + selected + `})`, "{{service}}"})),
		graph("Response time, p95, predicted", "Of the worst instance.", "s",
			query{`max by (service, horizon) (cbproxy_latency_predicted_seconds{` + selected + `})`, "{{service}} in {{horizon}}"}),
		graph("Time to open", "Until the first breaker opens if the predictions come true. No line if it does not open within an hour.", "s",
			query{`min by (service) (cbproxy_time_to_open_seconds{` + selected + `})`, "{{service}}"}),
		graph("Prediction error", "Mean absolute error of the predicted success ratios of the last hour, and of the assumption that they do not change. If the first one is larger, the predictions are of no use.", "percentunit",
			query{`avg by (service, horizon) (cbproxy_prediction_error{` + selected + `})`, "{{service}} in {{horizon}}"},
			query{`avg by (service, horizon) (cbproxy_prediction_error_as_now{` + selected + `})`, "{{service}} in {{horizon}}, no change"}),
	}},
	{"Queue", []panel{
		graph("Waiting", "", "short", query{`sum by (service) (cbproxy_queue_depth{` + selected + `})`, "{{service}}"},
			query{`sum by (service) (cbproxy_queue_dead{` + selected + `}) > 0`, "{{service}} dead"}),
		graph("Oldest", "Age of the oldest queued request.", "s",
			query{`max by (service) (cbproxy_queue_oldest_age_seconds{` + selected + `})`, "{{service}}"}),
		graph("Throughput", "", "ops",
			query{`sum by (service) (rate(cbproxy_queue_accepted_total{` + selected + `}[$__rate_interval]))`, "{{service}} accepted"},
			query{`sum by (service) (rate(cbproxy_queue_delivered_total{` + selected + `}[$__rate_interval]))`, "{{service}} delivered"},
			query{`sum by (service) (rate(cbproxy_queue_retried_total{` + selected + `}[$__rate_interval]))`, "{{service}} retried"},
			query{`sum by (service) (rate(cbproxy_queue_dead_total{` + selected + `}[$__rate_interval]))`, "{{service}} dead letters"},
			query{`sum by (service) (rate(cbproxy_queue_lost_total{` + selected + `}[$__rate_interval]))`, "{{service}} lost"},
			query{`sum(rate(cbproxy_queue_commits_total{instance=~"$instance"}[$__rate_interval]))`, "commits"}),
	}},
	{"Cache", []panel{
		graph("Hit rate", "Share of cache lookups with a result.", "percentunit",
			query{`sum by (service) (rate(cbproxy_cache_hits_total{` + selected + `}[$__rate_interval]))
  / (sum by (service) (rate(cbproxy_cache_hits_total{` + selected + `}[$__rate_interval]) + rate(cbproxy_cache_misses_total{` + selected + `}[$__rate_interval])) > 0)`, "{{service}}"}),
		graph("Memory", "", "bytes", query{`sum by (service) (cbproxy_cache_bytes{` + selected + `})`, "{{service}}"}),
		graph("Entries", "Stored entries, and entries stored and evicted per second.", "short",
			query{`sum by (service) (cbproxy_cache_entries{` + selected + `})`, "{{service}}"},
			query{`sum by (service) (rate(cbproxy_cache_stored_total{` + selected + `}[$__rate_interval]))`, "{{service}} stored per second"},
			query{`sum by (service) (rate(cbproxy_cache_evicted_total{` + selected + `}[$__rate_interval]))`, "{{service}} evicted per second"}),
	}},
	{"Instances, fleet and Redis", []panel{
		graph("Redis is up", "1 if Redis commands succeed.", "short", query{`cbproxy_redis_up{instance=~"$instance"}`, "{{instance}}"}),
		graph("Redis commands", "", "ops",
			query{`sum by (instance) (rate(cbproxy_redis_operations_total{instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"},
			query{`sum by (instance) (rate(cbproxy_redis_errors_total{instance=~"$instance"}[$__rate_interval])) > 0`, "{{instance}} errors"},
			query{`sum by (instance) (rate(cbproxy_store_errors_total{instance=~"$instance"}[$__rate_interval])) > 0`, "{{instance}} embedded store, errors"}),
		graph("Probing and takeovers", "The instance that probes for the fleet, and queued requests taken over from other instances.", "short",
			query{`cbproxy_fleet_probing{` + selected + `} > 0`, "{{service}}: {{instance}} probes"},
			query{`sum by (service, instance) (increase(cbproxy_queue_taken_over_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}}: {{instance}} takes over"},
			query{`sum by (service, instance) (increase(cbproxy_queue_surrendered_total{` + selected + `}[$__rate_interval])) > 0`, "{{service}}: {{instance}} released"}),
		graph("Reloads", "", "short",
			query{`sum by (result) (increase(cbproxy_config_reloads_total{instance=~"$instance"}[$__rate_interval]))`, "{{result}}"},
			query{`sum(cbproxy_config_last_reload_successful{instance=~"$instance"} == bool 0)`, "instances with a rejected configuration"}),
		graph("Age of the configuration", "", "s", query{`time() - cbproxy_config_last_reload_success_timestamp_seconds{instance=~"$instance"}`, "{{instance}}"}),
		graph("Versions", "Instances by version.", "short", query{`count by (version, commit) (cbproxy_build_info{instance=~"$instance"})`, "{{version}} {{commit}}"}),
		graph("CPU", "CPU seconds per second.", "short", query{`rate(process_cpu_seconds_total{instance=~"$instance"}[$__rate_interval])
  and on (job, instance) cbproxy_build_info`, "{{instance}}"}),
		graph("Resident memory", "", "bytes", query{`process_resident_memory_bytes{instance=~"$instance"} and on (job, instance) cbproxy_build_info`, "{{instance}}"}),
		graph("Goroutines", "", "short", query{`go_goroutines{instance=~"$instance"} and on (job, instance) cbproxy_build_info`, "{{instance}}"}),
	}},
}

// states maps the numbers of states to names.
var states = []object{{"type": "value", "options": object{
	"0": object{"text": "closed", "color": "green", "index": 0},
	"1": object{"text": "open", "color": "red", "index": 1},
	"2": object{"text": "half-open", "color": "yellow", "index": 2},
}}}

// quantile is a query for a quantile of the response time per service.
func quantile(q string) query {
	return query{`histogram_quantile(` + q + `, sum by (service, le) (rate(enhanced_circuit_breaker_response_time_seconds_bucket{` + selected + `}[$__rate_interval])))`, "{{service}}"}
}

// stat is a panel with one number, coloured if it is not zero and a colour is given.
func stat(title, description, unit, expr, color string) panel {
	steps := []object{{"color": "green", "value": nil}}
	if color != "" {
		steps = append(steps, object{"color": color, "value": 1})
	}
	return panel{
		kind: "stat", title: title, description: description, unit: unit, width: 4, height: 4, queries: []query{{expr, title}},
		fields: object{"thresholds": object{"mode": "absolute", "steps": steps}, "color": object{"mode": "thresholds"}},
		options: object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"colorMode":     "background", "graphMode": "none", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
			"wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
		},
	}
}

// timeline is a panel with the states of breakers over time.
func timeline(title, description string, width int, expr string) panel {
	return panel{
		kind: "state-timeline", title: title, description: description, width: width, height: 8, queries: []query{{expr, "{{service}} {{instance}}"}},
		fields: object{"mappings": states, "color": object{"mode": "fixed"}, "custom": object{"fillOpacity": 80, "lineWidth": 0}},
		options: object{
			"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}},
			"tooltip": object{"mode": "single", "sort": "none"},
		},
	}
}

// graph is a panel with lines over time.
func graph(title, description, unit string, queries ...query) panel {
	return panel{
		kind: "timeseries", title: title, description: description, unit: unit, width: 8, height: 8, queries: queries,
		fields: object{"min": 0, "color": object{"mode": "palette-classic"}, "custom": object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false}},
		options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

// signed returns p with negative values, too.
func signed(p panel) panel {
	delete(p.fields, "min")
	return p
}
