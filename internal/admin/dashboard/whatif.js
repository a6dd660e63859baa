import { h, setText } from "./dom.js";
import { ApiError, call, errorText, get } from "./api.js";
import { formatDuration, formatTime, now } from "./time.js";
import { drawAxis, drawCalls, drawLane, drawLegend, formatNumber, phasesOf, plural } from "./lanes.js";
import { createThresholds, toYAML } from "./thresholds.js";

const hour = 3600e3; // ms
const periods = { "1 h": hour, "6 h": 6 * hour, "24 h": 24 * hour };
const bucketCount = 120;
const changeDelay = 150; // ms from a change to the request
const retryDelay = 2000; // ms until the next request if another simulation is running
const simulateTimeout = 25_000; // ms; the proxy itself limits a simulation to 15 s
const historyLimit = 200; // state changes of a service that the proxy keeps at least

const figures = [
  ["openings", "openings", formatNumber],
  ["open_seconds", "open for", (s) => (s < 10 ? `${Number(s.toFixed(2))} s` : formatDuration(s))],
  ["refused", "calls refused", formatNumber],
  ["refused_good", "of them good", formatNumber],
  ["failures_passed", "failures passed", formatNumber],
];

let dialog; // made at the first use
let service, config, history; // what the dialog is about
let period, from, until; // times in ms
let abort, timer; // of the request

const thresholds = createThresholds(() => schedule(changeDelay));
const title = h("h2", { id: "whatif-title" });
const note = h("p", { id: "whatif-note", hidden: true });
const status = h("p", { id: "whatif-status", role: "status" });
const charts = h("div", { id: "whatif-charts" });
const numbers = h("div", { id: "whatif-figures" });
const yaml = h("pre", { id: "whatif-yaml", tabindex: "0", role: "region", "aria-label": "Changed keys as YAML" });
const copied = h("span", { id: "whatif-copied", role: "status" });
const copyButton = h("button", { id: "whatif-copy", type: "button", onclick: copy }, "Copy YAML");

// openWhatIf shows what other thresholds of a service would have done.
export async function openWhatIf(name) {
  dialog ||= create();
  service = name;
  setText(title, `What if: ${name}`);
  clear();
  setText(status, "Loading…");
  dialog.showModal();
  dialog.scrollTop = 0;
  try {
    config = await get("config");
  } catch (e) {
    setText(status, errorText(e));
    return;
  }
  if (service === name && dialog.open) reset();
}

function create() {
  const choice = (name) => h("label", {}, h("input", { type: "radio", name: "period", value: name, checked: name === "24 h", onchange: load }), ` ${name}`);
  const element = h("dialog", { id: "whatif", "aria-labelledby": "whatif-title", "aria-describedby": "whatif-text", onclose: stop },
    h("div", { class: "title" }, title, h("button", { id: "whatif-close", type: "button", onclick: () => element.close() }, "Close")),
    h("p", { id: "whatif-text", class: "muted" }, "What the breaker would have done with the recorded calls if its thresholds were others. Nothing is changed."), note,
    h("div", { class: "whatif" },
      h("div", { class: "whatif-controls" }, thresholds.element, h("p", {}, h("button", { id: "whatif-reset", type: "button", onclick: reset }, "Reset"))),
      h("div", { class: "whatif-answer" },
        h("fieldset", {}, h("legend", {}, "Calls of the last"), ...Object.keys(periods).map(choice), " ", h("button", { type: "button", onclick: load }, "Update")),
        status, charts, numbers),
      h("div", { class: "whatif-keep" },
        h("h3", {}, "To keep the change"),
        h("p", {}, "Put these keys into the configuration file, below ", h("code", {}, "routes:"), ", and check them with ", h("code", {}, "cbproxy check --diff config.yaml edited.yaml"), "."),
        yaml, h("p", {}, copyButton, " ", copied))));
  document.body.append(element);
  return element;
}

// reset sets the thresholds to those in force.
function reset() {
  const route = config.routes[service];
  if (!route) {
    setText(status, `The configuration has no service ${service} any more.`);
    return;
  }
  const { mode } = route.breaker;
  note.hidden = mode === "enforce";
  setText(note, mode === "off" ? "The breaker is off, so it would have done nothing with any thresholds." : "The breaker is in shadow mode. This is what it would have done in the mode enforce.");
  thresholds.load(route.breaker);
  load();
}

// load simulates the calls of the chosen period until now.
function load() {
  period = dialog.querySelector("[name=period]:checked").value;
  until = Math.floor(now());
  from = until - periods[period];
  schedule(0);
}

// schedule shows the changed keys, and simulates after a delay.
function schedule(delay) {
  showYAML();
  stop();
  timer = setTimeout(simulate, delay);
}

// stop ends the request in flight; the proxy then ends its simulation.
function stop() {
  clearTimeout(timer);
  abort?.abort();
}

function clear() {
  charts.replaceChildren();
  numbers.replaceChildren();
}

function setBusy(busy) {
  for (const e of [charts, numbers]) e.setAttribute("aria-busy", busy);
}

async function simulate() {
  const own = (abort = new AbortController());
  setBusy(true);
  const body = { service, since: new Date(from).toISOString(), until: new Date(until).toISOString(), breaker: thresholds.changes() };
  try {
    history = await get(`circuit-breakers/${encodeURIComponent(service)}/history`);
    const response = await call(`simulate?buckets=${bucketCount}`, { method: "POST", body, signal: AbortSignal.any([own.signal, AbortSignal.timeout(simulateTimeout)]) });
    const { services } = await response.json();
    if (own.signal.aborted) return;
    thresholds.showFaults([]);
    show(services[service]);
    numbers.dataset.request = JSON.stringify(body);
  } catch (e) {
    if (!own.signal.aborted) showError(e);
  }
}

function showError(e) {
  setBusy(false);
  if (e instanceof ApiError && e.status === 429) timer = setTimeout(simulate, retryDelay);
  const faults = e.faults || [], left = thresholds.showFaults(faults);
  if (left.length < faults.length) {
    copyButton.disabled = true;
    setText(status, ["A value is not valid; the figures are those before it.", ...left].join(" "));
    return;
  }
  clear(); // the figures may be those of another period
  setText(status, e.name === "TimeoutError" ? "The proxy did not respond in time. Choose a shorter period." : errorText(e));
}

// show shows the answer about the service; it is undefined if there are no calls.
function show(answer) {
  setBusy(false);
  if (!answer) {
    clear();
    setText(status, config.outcomes.enabled ? `There are no recorded calls of ${service} since ${formatTime(from)}.`
      : "Calls are not recorded, because outcomes.enabled is false in the configuration. Set it to true to try thresholds on the calls from then on.");
    return;
  }
  setText(status, `${plural(answer.calls, "call")} in the ${period} before ${formatTime(until)}, ${formatNumber(answer.failures)} failed.`);
  const last = answer.buckets.findLastIndex((b) => b.calls), end = answer.buckets[last + 1]?.time; // nothing is known of the time after the last call
  const simulated = (r) => phasesOf(r.transitions, "closed", from, end ? Date.parse(end) : until);
  const past = pastPhases();
  charts.replaceChildren(drawLegend(past.some((p) => p.state === "unknown")),
    h("div", { class: "lane calls-lane" }, h("span", { class: "lane-name" }, "calls"), drawCalls(answer.buckets, until)),
    drawLane("was", past, from, until),
    drawLane("in force", simulated(answer.against), from, until),
    drawLane("with the change", simulated(answer.config), from, until),
    h("div", { class: "lane" }, h("span", { class: "lane-name" }), drawAxis(from, until)));
  numbers.replaceChildren(h("p", { class: "muted" }, "The first line is what the breaker did. The other two are simulated."),
    table(answer.against, answer.config), ...unknownText(answer.unknown), ...learningText());
}

// pastPhases returns the phases of the breaker itself. Changes of the state that are too old to be kept are not known.
function pastPhases() {
  const changes = history.toReversed(); // oldest first
  return phasesOf(changes, history.length >= historyLimit ? "unknown" : changes[0]?.from || "closed", from, until);
}

// modes returns the modes of learning: that in force, and the changed one.
function modes() {
  const { mode } = config.routes[service].breaker.adaptive;
  return [mode, thresholds.changes().adaptive?.mode ?? mode];
}

function table(before, after) {
  const openings = (r) => r.transitions.filter((t) => t.to === "open" && t.cause === "adaptive").length;
  const rows = figures.map(([key, label, format]) => row(label, format, before[key], after[key], key));
  if (modes().includes("enforce")) rows.splice(1, 0, row("of them for unlikely failures", formatNumber, openings(before), openings(after)));
  const columns = ["", "in force", "with the change", "difference"];
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "figures" }, h("table", { "aria-label": "figures" },
    h("thead", {}, h("tr", {}, ...columns.map((c) => (c ? h("th", { scope: "col" }, c) : h("td"))))), h("tbody", {}, ...rows)));
}

function row(label, format, before, after, key) {
  const change = Math.round(100 * (after - before)) / 100, difference = change ? `${change > 0 ? "+" : "−"}${format(Math.abs(change))}` : "no change";
  return h("tr", { "data-figure": key }, h("th", { scope: "row" }, label), h("td", { "data-value": before }, format(before)), h("td", { "data-value": after }, format(after)), h("td", {}, difference));
}

// learningText says how the modes of learning appear in the figures.
function learningText() {
  const [, mode] = modes(), { calls, time } = config.routes[service].breaker.adaptive.warmup;
  const text = {
    shadow: "In the mode shadow, unlikely failures are only reported. Choose enforce to see when they would have opened the breaker.",
    enforce: `The simulation has learnt nothing before these calls: unlikely failures open the breaker after a warmup of ${plural(calls, "call")} and ${time}.`,
  }[mode];
  return text ? [h("p", { id: "whatif-learning" }, text)] : [];
}

function unknownText(n) {
  if (!n) return [];
  return [h("p", { id: "whatif-unknown" }, `Calls that were not made then, and would be: ${formatNumber(n)}. How they would have ended is not known, so they count neither as success nor as failure: the more they are, the less these figures tell.`)];
}

// showYAML shows the changed keys.
function showYAML() {
  const changes = thresholds.changes(), none = !Object.keys(changes).length;
  copyButton.disabled = none;
  setText(yaml, none ? "# no threshold is changed" : toYAML({ [service]: { breaker: changes } }, 2));
  setText(copied, "");
}

// copy copies the changed keys. A page that was not loaded over TLS or from this host has no access to the clipboard but by a command.
async function copy() {
  let done = false;
  try {
    await navigator.clipboard.writeText(yaml.textContent);
    done = true;
  } catch {
    getSelection().selectAllChildren(yaml);
    done = document.execCommand("copy");
  }
  setText(copied, done ? "Copied." : "The browser does not allow it; the text is selected.");
}
