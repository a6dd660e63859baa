import { $, h, set, span } from "./dom.js";
import { act, force } from "./dialogs.js";

const cards = new Map(); // by service

const orders = {
  open: { button: "Open", title: "Open", text: "Its callers get the fallback, and its upstream nothing.", duration: true },
  closed: { button: "Close", title: "Close", text: "Every request goes to its upstream, whatever becomes of it.", duration: true },
  "half-open": { button: "Probe now", title: "Probe", text: "The next requests test whether its upstream has recovered." },
  auto: { button: "Release", title: "Release", text: "Its breaker decides by itself again." },
};

function order(service, state, shared) {
  const o = orders[state];
  return act({
    ...o, title: `${o.title} ${service}`, scope: shared,
    send: ({ reason, duration, scope }) => {
      const body = { state, reason };
      if (o.duration && duration.trim()) body.duration = /^[0-9.]+$/.test(duration.trim()) ? Number(duration) : duration.trim();
      if (shared) body.scope = scope;
      return force(service, body);
    },
  });
}

function make(name) {
  const parts = {};
  for (const part of ["badge", "forced", "mode", "since", "retry", "counter", "last", "instead"]) parts[part] = h("span");
  parts.badge.className = "badge";
  parts.forced.className = "badge forced";
  parts.mode.className = "badge";
  parts.meter = h("meter", { min: 0, "aria-label": "failures in a row" });
  parts.progress = h("progress", { max: 1, "aria-label": "until the next probe" });
  parts.retryRow = h("div", { class: "row" }, h("span", { class: "label" }, "next probe"), parts.retry);
  parts.counterRow = h("div", { class: "row" }, h("span", { class: "label" }, "failures in a row"), parts.counter);
  parts.insteadRow = h("div", { class: "row" }, h("span", { class: "label" }, "callers get"), parts.instead);
  parts.last.className = "error";
  const button = (state) => h("button", { type: "button", "data-state": state, onclick: () => order(name, state, parts.shared) }, orders[state].button);
  parts.buttons = Object.fromEntries(Object.keys(orders).map((state) => [state, button(state)]));
  parts.card = h("article", { class: "card", "data-service": name },
    h("header", {}, h("h3", {}, name), h("span", {}, parts.mode, " ", parts.forced, " ", parts.badge)),
    h("div", { class: "row" }, h("span", { class: "label" }, "since"), parts.since),
    parts.insteadRow, parts.retryRow, parts.progress, parts.counterRow, parts.meter, parts.last, h("div", { class: "fill" }),
    h("div", { class: "actions" }, ...Object.values(parts.buttons)));
  return parts;
}

// show draws a card a service, the troubled ones first and then by priority.
export function show(health) {
  const troubled = (s) => s.circuit_breaker_state !== "closed" || s.forced;
  const services = Object.values(health.services).sort((a, b) =>
    Boolean(troubled(b)) - Boolean(troubled(a)) || a.configuration.priority - b.configuration.priority || a.service_name.localeCompare(b.service_name));
  for (const [name, parts] of cards) {
    if (!health.services[name]) {
      parts.card.remove();
      cards.delete(name);
    }
  }
  services.forEach((s, i) => {
    let parts = cards.get(s.service_name);
    if (!parts) cards.set(s.service_name, (parts = make(s.service_name)));
    update(parts, s, health);
    const there = $("services").children[i];
    if (there !== parts.card && !$("services").contains(document.activeElement)) $("services").insertBefore(parts.card, there || null);
    else if (!parts.card.isConnected) $("services").append(parts.card);
  });
}

function update(parts, s, health) {
  const state = s.circuit_breaker_state;
  parts.service = s;
  parts.shared = health.redis.sharing;
  parts.card.className = `card is-${state}`;
  set(parts.badge, state);
  parts.badge.className = `badge ${state}`;
  parts.forced.hidden = !s.forced;
  if (s.forced) parts.forced.title = s.forced.reason || "";
  parts.mode.hidden = s.mode === "enforce";
  set(parts.mode, s.mode);
  parts.insteadRow.hidden = state === "closed" || s.mode !== "enforce";
  set(parts.instead, instead(s));
  const max = s.configuration.fail_max;
  parts.counterRow.hidden = parts.meter.hidden = !max;
  set(parts.counter, `${s.fail_counter} of ${max}`);
  Object.assign(parts.meter, { max: max || 1, high: Math.max(max - 1, 0), low: max / 2, optimum: 0, value: s.fail_counter });
  const e = s.last_error;
  parts.last.hidden = !e;
  if (e) set(parts.last, `last failure ${span((Date.now() - offset - new Date(e.time)) / 1000)} ago: ${e.type}${e.detail ? ", " + e.detail : ""}`);
  parts.buttons.auto.hidden = !s.forced;
  parts.buttons["half-open"].hidden = state !== "open";
}

let config = {}; // the one in force

export function configure(c) {
  config = c;
}

// instead is what callers get while the upstream is not asked.
function instead(s) {
  const route = config.routes?.[s.service_name];
  const strategies = config.fallbacks?.[route?.fallback]?.try;
  if (!route?.fallback_enabled || !strategies?.length) return "an error, 503";
  return strategies.join(", else ");
}

let offset = 0; // ms that this clock is ahead of the proxy's

export function adjust(timestamp) {
  offset = Date.now() - new Date(timestamp);
}

// tick draws what time alone changes.
export function tick() {
  const now = Date.now() - offset;
  for (const parts of cards.values()) {
    const s = parts.service, since = new Date(s.since), cause = s.cause ? `, ${s.cause.replaceAll("_", " ")}` : "";
    set(parts.since, `${span((now - since) / 1000)}${cause}`);
    const f = s.forced;
    if (f) set(parts.forced, `forced${f.scope === "fleet" ? " fleet-wide" : ""}${f.until ? `, ${span((new Date(f.until) - now) / 1000)} left` : ""}${f.reason ? `: ${f.reason}` : ""}`);
    parts.retryRow.hidden = parts.progress.hidden = !s.retry_at;
    if (s.retry_at) {
      const left = new Date(s.retry_at) - now;
      set(parts.retry, left > 0 ? `in ${span(left / 1000)}` : "now");
      parts.progress.value = Math.min(1, Math.max(0, 1 - left / (new Date(s.retry_at) - since)));
    }
  }
}

// summary says in a sentence what is broken.
export function summary(health) {
  const troubled = Object.values(health.services).filter((s) => s.circuit_breaker_state !== "closed" && s.mode !== "off");
  if (!troubled.length) return `All ${health.total_services} services answer through their upstreams.`;
  const names = troubled.map((s) => `${s.service_name} (${s.circuit_breaker_state})`).join(", ");
  const instead = troubled.every((s) => s.configuration.fallback_enabled) ? "their callers get fallbacks" : "some of their callers get errors";
  return `${troubled.length} of ${health.total_services} services: ${names}; ${instead}.`;
}
