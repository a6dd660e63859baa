import { $, h, place, said, soon } from "./dom.js";
import { get } from "./api.js";
import { words } from "./cards.js";
import { clock } from "./time.js";

const most = 300;
const entries = new Map(); // by key

function changed(c) {
  const cause = c.cause === "fleet" ? " as the fleet decided" : ` by ${words(c.cause)}`;
  return [h("strong", {}, c.service), " ", h("span", { class: c.from }, c.from), " → ", h("span", { class: c.to }, c.to), cause,
    ...(c.reason ? [": “", said(c.reason), "”"] : []), ...(c.failure ? ["; ", c.failure.type, ...(c.failure.detail ? [": ", said(c.failure.detail)] : [])] : []),
    ...(c.instance ? [" (", said(c.instance), ")"] : [])];
}

// tellers tell of each kind of event that is to be told.
const tellers = {
  state_changed: changed,
  admin_action: (e) => {
    const what = [e.service, e.request, e.state, e.duration, e.scope].filter(Boolean).join(" ");
    return [h("strong", {}, "operator"), " at ", said(e.remote), ": ", [words(e.action), what].filter(Boolean).join(" "),
      ...(e.reason ? [": “", said(e.reason), "”"] : []), ...(e.error ? ["; not done: ", said(e.error)] : [])];
  },
  probing: (e) => [h("strong", {}, e.service), " this instance probes for the fleet"],
  reloaded: (e) => [h("strong", {}, "configuration"), ...(e.error ? [" refused: ", said(e.error)] : [` in force (${e.hash.slice(0, 8)})${e.restart_required ? `; waits for a restart: ${e.restart_required.join(", ")}` : ""}`])],
};

// Dates are whole milliseconds; more than one thing happens in one.
const fraction = (time) => (/\.(\d+)/.exec(time)?.[1] || "").padEnd(9, "0");
const newestFirst = (a, b) => b.at - a.at || fraction(b.what.time).localeCompare(fraction(a.what.time));

function draw() {
  const newest = [...entries.values()].sort(newestFirst);
  for (const e of newest.splice(most)) entries.delete(e.key);
  for (const e of newest) e.line ||= h("li", { "data-kind": e.kind }, h("time", { datetime: e.what.time, title: e.what.time }, clock(e.what.time)), h("span", {}, ...tellers[e.kind](e.what)));
  place($("timeline"), newest.length ? newest.map((e) => e.line) : [h("li", { class: "soft" }, "Nothing has changed since the proxy keeps a history.")]);
}

const drawSoon = soon(draw, 50, 250);

function put(kind, what) {
  const key = kind === "state_changed" ? `${what.service} ${what.time} ${what.from} ${what.to}` : kind + JSON.stringify(what);
  const known = entries.get(key);
  if (known && (known.what.instance || !what.instance)) return; // of an event, a history also tells whose it was
  entries.set(key, { key, kind, what, at: new Date(what.time).getTime() });
  if (entries.size > 3 * most) trim();
  drawSoon();
}

// trim keeps the newest, however many come between two drawings.
function trim() {
  for (const e of [...entries.values()].sort(newestFirst).slice(most)) entries.delete(e.key);
}

// load puts in what services have in their histories.
export async function load(services) {
  const histories = await Promise.all(services.map((s) => get(`circuit-breakers/${encodeURIComponent(s)}/history`)));
  for (const c of histories.flat()) put("state_changed", c);
  drawSoon();
}

// add puts in an event, if it is one to be told.
export function add(name, e) {
  if (tellers[name]) put(name, e);
}

const alike = 5000; // ms between a decision of the fleet's and the change that brought it about

// found is the change, here or at another instance, by which the fleet learnt that a service is as it
// is; undefined if that is not known.
export function found(s) {
  const since = new Date(s.since).getTime();
  const fits = ({ kind, what: c, at }) => kind === "state_changed" && c.service === s.service_name && c.to === s.circuit_breaker_state && c.cause !== "fleet" && c.instance && Math.abs(at - since) < alike;
  return [...entries.values()].filter(fits).sort(newestFirst)[0]?.what;
}
