import { h, plain, set } from "./dom.js";
import { act, force } from "./dialogs.js";
import { ago, clock, now, span } from "./time.js";

const most = 200; // characters of a text of others' on a card; the timeline has all of it

const orders = {
  open: { button: "Open", title: "Open", text: "Its callers get the fallback, and its upstream nothing.", duration: true },
  closed: { button: "Close", title: "Close", text: "Every request goes to its upstream, whatever becomes of it.", duration: true },
  "half-open": { button: "Probe now", title: "Probe", text: "The next requests test whether its upstream has recovered." },
  auto: { button: "Release", title: "Release", text: "Its breaker decides by itself again." },
};

const byOperator = ["forced", "released"];

export const words = (cause) => cause.replaceAll("_", " ");

function order(parts, state) {
  const { service: s, shared } = parts, o = orders[state];
  return act({
    ...o, title: `${o.title} ${s.service_name}`, scope: shared && (s.forced?.scope || "instance"),
    send: ({ reason, duration, scope }) => {
      const body = { state, reason };
      if (o.duration && duration.trim()) body.duration = /^[0-9.]+$/.test(duration.trim()) ? Number(duration) : duration.trim();
      if (shared) body.scope = scope;
      return force(s.service_name, body);
    },
  });
}

function row(label, value) {
  return h("div", { class: "row" }, h("span", { class: "label" }, label), value);
}

// make makes a service's card, which shows nothing until it is updated.
export function make(name) {
  const id = "card-" + name, parts = {};
  for (const part of ["badge", "forced", "mode", "since", "retry", "counter", "lastAge"]) parts[part] = h("span");
  for (const part of ["why", "reason", "instead", "lastWhat"]) parts[part] = h("bdi");
  parts.mode.className = "badge";
  parts.forced.className = "badge forced";
  parts.meter = h("meter", { min: 0, "aria-label": `failures in a row of ${name}` });
  parts.progress = h("progress", { max: 1, "aria-label": `until the next probe of ${name}` });
  for (const [part, label] of [["why", "why"], ["reason", "reason"], ["instead", "callers get"], ["retry", "next probe"], ["counter", "failures in a row"]]) parts[part + "Row"] = row(label, parts[part]);
  parts.last = h("div", { class: "error" }, parts.lastAge, parts.lastWhat);
  const button = (state) => h("button", { type: "button", "data-state": state, "aria-label": `${orders[state].button} ${name}`, onclick: () => order(parts, state) }, orders[state].button);
  parts.buttons = Object.fromEntries(Object.keys(orders).map((state) => [state, button(state)]));
  parts.card = h("article", { "data-service": name, "aria-labelledby": id },
    h("header", {}, h("h3", { id, tabindex: "-1" }, name), h("span", { class: "badges" }, parts.mode, " ", parts.forced, " ", parts.badge)),
    row("since", parts.since), parts.whyRow, parts.reasonRow, parts.insteadRow, parts.retryRow, parts.progress, parts.counterRow, parts.meter, parts.last, h("div", { class: "fill" }),
    h("div", { class: "actions" }, ...Object.values(parts.buttons)));
  return parts;
}

// blocked tells that not all of a service's requests reach its upstream.
export const blocked = (s) => s.circuit_breaker_state !== "closed" && s.mode === "enforce";

// answers are the strategies that answer in a blocked upstream's place, null where callers get an error.
// config is the one in force, null as long as it is not known.
export function answers(s, config) {
  if (!s.configuration.fallback_enabled) return null;
  if (!config) return ["a fallback"];
  const fallback = config.fallbacks?.[config.routes?.[s.service_name]?.fallback];
  const reason = s.circuit_breaker_state === "open" ? "open" : "half_open_limit";
  if (!fallback?.try?.length || (fallback.when && !fallback.when.includes(reason))) return null;
  return fallback.try;
}

function instead(s, config) {
  if (!blocked(s)) return "the upstream's own answers";
  const other = answers(s, config)?.join(", else ") ?? "an error, 503";
  return s.circuit_breaker_state === "open" ? other : `the upstream's answer to probes; the others ${other}`;
}

// update shows a service as it is. found is the change by which the fleet learnt of it, if there is one.
export function update(parts, s, { shared, config, found }) {
  const state = s.circuit_breaker_state, closed = state === "closed";
  Object.assign(parts, { service: s, shared });
  parts.card.className = `card is-${state}`;
  set(parts.badge, state);
  parts.badge.className = `badge ${state}`;
  parts.forced.hidden = !s.forced;
  parts.mode.hidden = s.mode === "enforce";
  set(parts.mode, s.mode === "shadow" && s.shadow_rejections ? `shadow, would have refused ${s.shadow_rejections}` : s.mode);
  parts.whyRow.hidden = !s.cause;
  set(parts.why, found ? `${words(found.cause)}${byOperator.includes(found.cause) ? " at " : ", noticed by "}${plain(found.instance)}` : words(s.cause));
  parts.reasonRow.hidden = !s.forced?.reason;
  set(parts.reason, plain(s.forced?.reason || "", most));
  parts.insteadRow.hidden = closed && !s.forced;
  set(parts.instead, instead(s, config));
  const max = s.configuration.fail_max;
  parts.counterRow.hidden = parts.meter.hidden = !max;
  parts.counterRow.classList.toggle("counting", s.fail_counter > 0);
  set(parts.counter, `${s.fail_counter} of ${max}`);
  Object.assign(parts.meter, { max: max || 1, high: Math.max(max - 1, 0), low: max / 2, optimum: 0, value: s.fail_counter });
  parts.failure = s.last_error || found?.failure;
  const e = parts.failure;
  parts.last.hidden = !e;
  if (e) set(parts.lastWhat, `${e.type}${e.detail ? ", " + plain(e.detail, most) : ""}`);
  parts.buttons.auto.hidden = !s.forced;
  parts.buttons["half-open"].hidden = state !== "open";
  tick(parts);
}

// tick draws what time alone changes.
export function tick(parts) {
  const s = parts.service, since = new Date(s.since), f = s.forced;
  set(parts.since, `${clock(since)}, for ${ago(since)}`);
  if (f) set(parts.forced, `forced${f.scope === "fleet" ? " fleet-wide" : ""}${f.until ? `, ${span((new Date(f.until) - now()) / 1000)} left` : ""}`);
  if (parts.failure) set(parts.lastAge, `last failure ${ago(parts.failure.time)} ago: `);
  parts.retryRow.hidden = parts.progress.hidden = !s.retry_at;
  if (!s.retry_at) return;
  const end = new Date(s.retry_at), left = end - now();
  set(parts.retry, left > 0 ? `in ${span(left / 1000)}` : "now");
  parts.progress.value = Math.min(1, Math.max(0, 1 - left / (end - since)));
}
