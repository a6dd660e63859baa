import { h, sanitize, setText } from "./dom.js";
import { confirmAction, forceState } from "./dialogs.js";
import { createEndpoints, ejectedText } from "./endpoints.js";
import { createKeys, openKeysText } from "./keys.js";
import { timeToOpenText } from "./forecast.js";
import { createFaults, faultsText } from "./faults.js";
import { createLearning, demotedText } from "./learning.js";
import { createOverrides, overridesText } from "./overrides.js";
import { durationValue } from "./forms.js";
import { formatAge, formatDuration, formatTime, now } from "./time.js";
import { openWhatIf } from "./whatif.js";

const maxText = 200; // characters of an untrusted text on a card; the timeline shows all of it

// actions are the buttons of a card by the state that they force.
const actions = {
  open: { button: "Open", title: "Open", text: "Clients get the fallback. No requests are sent to the upstream.", duration: true },
  closed: { button: "Close", title: "Close", text: "All requests are sent to the upstream, even if they fail.", duration: true },
  "half-open": { button: "Probe now", title: "Probe", text: "The next requests test whether the upstream has recovered." },
  auto: { button: "Release", title: "Release", text: "The breaker changes its state automatically again." },
};

const operatorCauses = ["forced", "released"];

export const causeText = (cause) => (cause === "fleet" ? "decision of the fleet" : cause.replaceAll("_", " "));

function runAction(card, state) {
  const { service: s, shared } = card, a = actions[state];
  return confirmAction({
    ...a, title: `${a.title} ${s.service_name}`, scope: shared && (s.forced?.scope || "instance"),
    send: ({ reason, duration, scope }) => {
      const body = { state, reason };
      if (a.duration && duration.trim()) body.duration = durationValue(duration);
      if (shared) body.scope = scope;
      return forceState(s.service_name, body);
    },
  });
}

function row(label, value) {
  return h("div", { class: "row" }, h("span", { class: "label" }, label), value);
}

// createCard returns the elements of a service's card. They are empty until updateCard fills them.
export function createCard(name) {
  const id = "card-" + name, card = { faults: createFaults(name), overrides: createOverrides(name), learning: createLearning(name), endpoints: createEndpoints(name), keys: createKeys(name) };
  for (const key of ["badge", "forecast", "forced", "mode", "since", "retry", "counter", "failureAge", "algorithm", "admission", "limit", "expressionErrors"]) card[key] = h("span");
  for (const key of ["cause", "reason", "clients", "failureText"]) card[key] = h("bdi");
  card.mode.className = "badge";
  card.forced.className = "badge forced";
  card.forecast.className = "badge half-open";
  card.meter = h("meter", { min: 0, "aria-label": `consecutive failures of ${name}` });
  card.progress = h("progress", { max: 1, "aria-label": `until the next probe of ${name}` });
  for (const [key, label] of [["cause", "cause"], ["reason", "reason"], ["clients", "clients get"], ["retry", "next probe"], ["algorithm", "algorithm"], ["admission", "admission"], ["limit", "requests in flight"], ["expressionErrors", "expression errors"], ["counter", "consecutive failures"]]) card[key + "Row"] = row(label, card[key]);
  card.admitted = h("progress", { max: 1, "aria-label": `share of the requests to ${name} that is let through` });
  card.lastFailure = h("div", { class: "last-failure" }, card.failureAge, card.failureText);
  const button = (state) => h("button", { type: "button", "data-state": state, "aria-label": `${actions[state].button} ${name}`, onclick: () => runAction(card, state) }, actions[state].button);
  card.buttons = Object.fromEntries(Object.keys(actions).map((state) => [state, button(state)]));
  card.element = h("article", { "data-service": name, "aria-labelledby": id },
    h("header", {}, h("h3", { id, tabindex: "-1" }, name), h("span", { class: "badges" }, card.mode, " ", card.faults.badge, " ", card.overrides.badge, " ", card.learning.badge, " ", card.endpoints.badge, " ", card.keys.badge, " ", card.forecast, " ", card.forced, " ", card.badge)),
    card.faults.element, card.overrides.element, row("since", card.since), card.causeRow, card.reasonRow, card.clientsRow, card.retryRow, card.progress, card.algorithmRow, card.admissionRow, card.admitted, card.limitRow, card.expressionErrorsRow, card.counterRow, card.meter, card.endpoints.element, card.keys.element, card.learning.element, card.lastFailure, h("div", { class: "spacer" }),
    h("div", { class: "actions" }, ...Object.values(card.buttons), h("button", { type: "button", "data-whatif": name, "aria-label": `What if ${name}`, onclick: () => openWhatIf(name) }, "What if"), card.faults.button, card.overrides.button));
  return card;
}

// rejectsSome returns whether a closed breaker rejects a share of the requests.
export const rejectsSome = (s) => s.circuit_breaker_state === "closed" && (s.rejection_ratio > 0 || s.admitted_ratio < 1);

// rejectsRequests returns whether the breaker keeps requests from the upstream.
export const rejectsRequests = (s) => s.mode === "enforce" && (s.circuit_breaker_state !== "closed" || rejectsSome(s));

// rejectionReason returns the reason for which requests are rejected.
function rejectionReason(s) {
  const byState = { open: "open", "half-open": "half_open_limit" };
  return byState[s.circuit_breaker_state] ?? (s.rejection_ratio > 0 ? "throttled" : "recovering");
}

function admissionText(s) {
  const percent = (ratio) => `${Math.round(100 * ratio)} %`, would = s.mode === "shadow" ? "would be " : "";
  const parts = [];
  if (s.rejection_ratio > 0) parts.push(`throttled: ${percent(s.rejection_ratio)} ${would}rejected`);
  if (s.admitted_ratio < 1) parts.push(`recovering: ${percent(s.admitted_ratio)} ${would}let through`);
  return parts.join(", ");
}

// stateText returns the state of a service, and what else about it needs attention.
export const stateText = (s) => [s.circuit_breaker_state, s.forced && "forced", rejectsSome(s) && rejectionReason(s), faultsText(s), overridesText(s), demotedText(s), ejectedText(s), openKeysText(s)].filter(Boolean).join(", ");

// fallbackStrategies returns the strategies for rejected requests, or null if clients get an error. config is the
// configuration in force, or null if it is not loaded yet.
export function fallbackStrategies(s, config) {
  if (!s.configuration.fallback_enabled) return null;
  if (!config) return ["a fallback"];
  const fallback = config.fallbacks?.[config.routes?.[s.service_name]?.fallback];
  const reason = rejectionReason(s);
  if (!fallback?.try?.length || (fallback.when && !fallback.when.includes(reason))) return null;
  return fallback.try;
}

function clientsText(s, config) {
  if (!rejectsRequests(s)) return "upstream responses";
  const rejected = fallbackStrategies(s, config)?.join(", else ") ?? "error 503";
  if (s.circuit_breaker_state === "open") return rejected;
  return `${rejectsSome(s) ? "admitted requests" : "probes"}: upstream responses; other requests: ${rejected}`;
}

// updateCard shows the status of a service. origin is the state change of the instance that made the fleet decide, and operator the
// address of who has set its overrides, if known; hash is that of the configuration.
export function updateCard(card, s, { shared, config, hash, origin, operator }) {
  const state = s.circuit_breaker_state, closed = state === "closed";
  Object.assign(card, { service: s, shared });
  card.element.className = `card is-${state}`;
  setText(card.badge, state);
  card.badge.className = `badge ${state}`;
  card.forced.hidden = !s.forced;
  card.mode.hidden = s.mode === "enforce";
  setText(card.mode, s.mode === "shadow" && s.shadow_rejections ? `shadow, would have rejected ${s.shadow_rejections}` : s.mode);
  card.causeRow.hidden = !s.cause;
  setText(card.cause, origin ? `${causeText(origin.cause)}${operatorCauses.includes(origin.cause) ? " on " : ", detected by "}${sanitize(origin.instance)}` : causeText(s.cause));
  card.reasonRow.hidden = !s.forced?.reason;
  setText(card.reason, sanitize(s.forced?.reason || "", maxText));
  card.clientsRow.hidden = closed && !s.forced && !rejectsSome(s);
  setText(card.clients, clientsText(s, config));
  card.algorithmRow.hidden = s.algorithm === "ratio";
  setText(card.algorithm, s.algorithm);
  card.admissionRow.hidden = !rejectsSome(s);
  card.admitted.hidden = !rejectsSome(s) || s.mode !== "enforce";
  setText(card.admission, admissionText(s));
  card.admitted.value = s.admitted_ratio * (1 - s.rejection_ratio);
  const limit = s.concurrency_limit;
  card.limitRow.hidden = !limit?.auto;
  if (limit) setText(card.limit, `${limit.in_flight}, limited to ${limit.limit} by auto`);
  card.expressionErrorsRow.hidden = !s.expression_errors;
  setText(card.expressionErrors, `${s.expression_errors}`);
  const max = s.configuration.fail_max;
  card.counterRow.hidden = card.meter.hidden = !max;
  card.counterRow.classList.toggle("has-failures", s.fail_counter > 0);
  setText(card.counter, `${s.fail_counter} of ${max}`);
  Object.assign(card.meter, { max: max || 1, high: Math.max(max - 1, 0), low: max / 2, optimum: 0, value: s.fail_counter });
  card.failure = s.last_error || origin?.failure;
  const e = card.failure;
  card.lastFailure.hidden = !e;
  if (e) setText(card.failureText, `${e.type}${e.detail ? ", " + sanitize(e.detail, maxText) : ""}`);
  setText(card.forecast, timeToOpenText(s.service_name));
  card.forecast.hidden = !card.forecast.textContent;
  card.faults.update(s);
  card.overrides.update(s, hash, operator);
  card.learning.update(s);
  card.endpoints.update(s);
  card.keys.update(s);
  card.buttons.auto.hidden = !s.forced;
  card.buttons["half-open"].hidden = state !== "open";
  updateTimes(card);
}

// updateTimes updates what depends on the current time only.
export function updateTimes(card) {
  const s = card.service, since = new Date(s.since), f = s.forced;
  setText(card.since, `${formatTime(since)}, for ${formatAge(since)}`);
  if (f) setText(card.forced, `forced${f.scope === "fleet" ? " fleet-wide" : ""}${f.until ? `, ${formatDuration((new Date(f.until) - now()) / 1000)} left` : ""}`);
  card.faults.updateTimes();
  card.overrides.updateTimes();
  card.endpoints.updateTimes();
  card.keys.updateTimes();
  if (card.failure) setText(card.failureAge, `last failure ${formatAge(card.failure.time)} ago: `);
  card.retryRow.hidden = card.progress.hidden = !s.retry_at;
  if (!s.retry_at) return;
  const end = new Date(s.retry_at), left = end - now();
  setText(card.retry, left > 0 ? `in ${formatDuration(left / 1000)}` : "now");
  card.progress.value = Math.min(1, Math.max(0, 1 - left / (end - since)));
}
