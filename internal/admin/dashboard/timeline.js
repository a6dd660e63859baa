import { $, h, isolated, setChildren, throttle } from "./dom.js";
import { get } from "./api.js";
import { causeText } from "./cards.js";
import { describeEndpoint, describeEndpoints } from "./endpoints.js";
import { describe, effectText } from "./faults.js";
import { describeKey } from "./keys.js";
import { describeReport } from "./learning.js";
import { describeChange } from "./overrides.js";
import { formatTime } from "./time.js";

const maxEntries = 300;
const entries = new Map(); // by key

const reasonText = (reason) => (reason ? [", reason “", isolated(reason), "”"] : []);
const restartText = (keys) => (keys ? `; restart required: ${keys.join(", ")}` : "");

function stateChanged(c) {
  return [h("strong", {}, c.service), " ", h("span", { class: c.from }, c.from), " → ", h("span", { class: c.to }, c.to), `: ${causeText(c.cause)}`, ...reasonText(c.reason),
    ...(c.failure ? ["; ", c.failure.type, ...(c.failure.detail ? [": ", isolated(c.failure.detail)] : [])] : []),
    ...(c.instance ? [" (", isolated(c.instance), ")"] : [])];
}

function admissionText(e) {
  if (!e.rejected_ratio) return `no longer ${e.reason}`;
  return `${e.reason}, ${Math.round(100 * e.rejected_ratio)} % of the requests ${e.mode === "shadow" ? "would be" : "are"} rejected`;
}

// renderers return the content of an entry by kind of event. Other events are not shown.
const renderers = {
  state_changed: stateChanged,
  until_changed: (e) => [h("strong", {}, e.service), ` stays open until ${formatTime(e.until)}: ${causeText(e.cause)}`],
  admin_action: (e) => {
    const parameters = [e.service, e.fault, e.kind, e.request, e.state, e.duration, e.scope].filter(Boolean).join(" ");
    return [h("strong", {}, "operator"), " at ", isolated(e.remote), ": ", [e.action, parameters].filter(Boolean).join(" "),
      ...reasonText(e.reason), ...(e.error ? ["; failed: ", isolated(e.error)] : [])];
  },
  admission_changed: (e) => [h("strong", {}, e.service), `: ${admissionText(e)}`],
  fault_started: (e) => [h("strong", {}, e.service), ": ", h("span", { class: "temporary" }, "injected fault"), ` ${e.fault.id} started, for ${e.fault.duration}: `, ...describe(e.fault)],
  fault_ended: (e) => [h("strong", {}, e.service), ": ", h("span", { class: "temporary" }, "injected fault"), ` ${e.fault.id} ended (${effectText(e.fault)}): ${causeText(e.cause)}`, ...reasonText(e.reason)],
  overrides_changed: (e) => [h("strong", {}, e.service), ": ", ...describeChange(e)],
  adaptive: (e) => [h("strong", {}, e.service), ": ", ...describeReport(e)],
  key_state_changed: (e) => [h("strong", {}, e.service), ":", ...describeKey(e)],
  endpoint_changed: (e) => [h("strong", {}, e.service), ": ", ...describeEndpoint(e)],
  endpoints_changed: (e) => [h("strong", {}, e.service), ": ", ...describeEndpoints(e)],
  probing: (e) => [h("strong", {}, e.service), ": this instance sends the probes for the fleet"],
  reloaded: (e) => [h("strong", {}, "configuration"), ...(e.error ? [" rejected: ", isolated(e.error)] : [` in force (${e.hash.slice(0, 8)})${restartText(e.restart_required)}`])],
};

// A Date has whole milliseconds, so the fraction of the timestamp orders entries within one.
const fraction = (time) => (/\.(\d+)/.exec(time)?.[1] || "").padEnd(9, "0");
const newestFirst = (a, b) => b.at - a.at || fraction(b.event.time).localeCompare(fraction(a.event.time));

function draw() {
  const newest = [...entries.values()].sort(newestFirst);
  for (const e of newest.splice(maxEntries)) entries.delete(e.key);
  for (const e of newest) e.element ||= h("li", { "data-kind": e.kind }, h("time", { datetime: e.event.time, title: e.event.time }, formatTime(e.event.time)), h("span", {}, ...renderers[e.kind](e.event)));
  setChildren($("timeline"), newest.length ? newest.map((e) => e.element) : [h("li", { class: "muted" }, "No events recorded.")]);
}

const scheduleDraw = throttle(draw, 50, 250);

function addEntry(kind, event) {
  const key = kind === "state_changed" ? `${event.service} ${event.time} ${event.from} ${event.to}` : kind + JSON.stringify(event);
  const known = entries.get(key);
  if (known && (known.event.instance || !event.instance)) return; // an entry of the history replaces its event, as it has the instance
  entries.set(key, { key, kind, event, at: new Date(event.time).getTime() });
  if (entries.size > 3 * maxEntries) trim();
  scheduleDraw();
}

// trim removes the oldest entries, which limits memory between two draws.
function trim() {
  for (const e of [...entries.values()].sort(newestFirst).slice(maxEntries)) entries.delete(e.key);
}

// loadHistories adds the histories of services.
export async function loadHistories(services) {
  const histories = await Promise.all(services.map((s) => get(`circuit-breakers/${encodeURIComponent(s)}/history`)));
  for (const c of histories.flat()) addEntry("state_changed", c);
  scheduleDraw();
}

// addEvent adds an event if its kind is shown.
export function addEvent(name, e) {
  if (renderers[name]) addEntry(name, e);
}

const maxDelay = 5000; // ms between a state change and the decision of the fleet that it causes

// findOrigin returns the state change, of any instance, that made the fleet decide on the current state of a service;
// undefined if it is not known.
export function findOrigin(s) {
  const since = new Date(s.since).getTime();
  const matches = ({ kind, event: c, at }) => kind === "state_changed" && c.service === s.service_name && c.to === s.circuit_breaker_state && c.cause !== "fleet" && c.instance && Math.abs(at - since) < maxDelay;
  return [...entries.values()].filter(matches).sort(newestFirst)[0]?.event;
}

// findOperator returns the address from which an operator has set the current overrides of a service; "" if it is not known.
export function findOperator(s) {
  const since = new Date(s.overrides?.since).getTime();
  const matches = ({ kind, event: e, at }) => kind === "admin_action" && e.action === "set-overrides" && e.service === s.service_name && !e.error && Math.abs(at - since) < maxDelay;
  return (s.overrides && [...entries.values()].filter(matches).sort(newestFirst)[0]?.event.remote) || "";
}
