import { h, setText, throttle } from "./dom.js";
import { confirmAction } from "./dialogs.js";
import { call, get } from "./api.js";
import { formatSeconds } from "./time.js";

const loadInterval = 2000; // ms between two requests for the same baseline
const suspicious = 0.5; // evidence from which calls are not learnt

const number = new Intl.NumberFormat();
const path = (service) => `circuit-breakers/${encodeURIComponent(service)}/baseline`;
const percent = (ratio) => `${Number((100 * ratio).toPrecision(2))} %`;

export const demotedText = (s) => (s.adaptive?.demoted ? "demoted" : "");

// rows are the values of a baseline, by the class of their row. Those that are "" are not shown: with the mode off, only durations are learnt.
const rows = {
  failures: ["failures when healthy", (b) => (b.failure_ratio === null ? "not known" : `at most ${percent(b.failure_ratio)}`), true],
  calls: ["calls learnt", (b) => number.format(b.calls), true],
  latency: ["durations", (b) => Object.entries(b.latency).filter(([, v]) => v !== null).map(([name, v]) => `${name} ${formatSeconds(v)}`).join(", ")],
  verdicts: ["its openings", ({ openings: o }) => `${number.format(o.earlier)} earlier, ${number.format(o.only_adaptive)} by this alone, ${number.format(o.refuted)} refuted`, true],
};

// createLearning returns the part of a service's card with what its breaker has learnt.
export function createLearning(name) {
  const mode = h("span"), evidence = h("span"), explanation = h("p", { class: "explanation" });
  const meter = h("meter", { min: 0, max: 1, low: suspicious, high: 0.999, optimum: 0, "aria-label": `evidence for a fault of ${name}, from 0 to 1` });
  const summary = h("div", { class: "row" }, h("span", { class: "label" }, "learning, ", mode), evidence);
  const slow = h("span"), slowRow = h("div", { class: "row" }, h("span", { class: "label" }, "slow calls"), slow);
  const values = Object.fromEntries(Object.keys(rows).map((key) => [key, h("span")]));
  const reset = h("button", { type: "button", "data-reset": name, "aria-label": `Reset baseline of ${name}`, onclick: () => confirmReset(name) }, "Reset baseline");
  const details = h("details", { ontoggle: () => request() }, h("summary", { "aria-label": `Baseline of ${name}` }, "Baseline"),
    ...Object.entries(rows).map(([key, [label]]) => h("div", { class: "row" }, h("span", { class: "label" }, label), values[key])));
  const demoted = h("div", { class: "demoted", hidden: true }, h("p", {}, h("strong", {}, "Demoted to shadow mode."), " Too many of its openings were refuted by the first probe, so it only reports now. Find out what failed before them. " +
    "It enforces again when another limit opens the breaker after evidence, or when you reset the baseline."));
  const badge = h("span", { class: "badge half-open", hidden: true }, "demoted");
  const element = h("section", { class: "learning", "aria-label": `what ${name} has learnt`, hidden: true },
    summary, meter, slowRow, demoted, explanation, details);

  const request = throttle(async () => {
    if (details.open && !element.hidden) show(await get(path(name)));
  }, 0, loadInterval);

  function show(baseline) {
    setText(explanation, baseline.explanation);
    for (const [key, [, text, ofFailures]] of Object.entries(rows)) {
      setText(values[key], ofFailures && baseline.mode === "off" ? "" : text(baseline));
      values[key].parentElement.hidden = !values[key].textContent;
    }
    explanation.hidden = false;
  }

  // update shows what the breaker of a service has learnt; nothing if it learns neither failures nor durations.
  function update({ adaptive: a, slow_call_duration: duration }) {
    element.hidden = !a && !duration;
    slowRow.hidden = !duration;
    if (duration) setText(slow, `from ${formatSeconds(duration)}, set by auto`);
    badge.hidden = demoted.hidden = !a?.demoted;
    summary.hidden = meter.hidden = !a;
    const parent = a?.demoted ? demoted : details;
    if (reset.parentElement !== parent) parent.append(reset);
    if (details.open) request();
    explanation.hidden = !a && !explanation.textContent; // without the mode it is loaded with the baseline
    if (!a) return;
    setText(mode, a.mode);
    setText(evidence, `evidence ${Math.round(100 * a.evidence)} %`);
    meter.value = a.evidence;
    setText(explanation, a.explanation);
  }
  return { element, badge, update };
}

function confirmReset(service) {
  return confirmAction({
    title: `Reset the baseline of ${service}`, text: "The breaker forgets what it has learnt, and starts again. Until its warmup is over, only its other limits open it. A demotion ends.", button: "Reset baseline",
    send: ({ reason }) => call(`${path(service)}/reset`, { method: "POST", body: { reason } }),
  });
}

// describeReport returns the nodes that describe an event about what was learnt.
export function describeReport(e) {
  if (e.report === "demoted") return [h("strong", {}, "demoted to shadow mode"), ", because too many of its openings were refuted by the first probe"];
  if (e.report === "restored") return ["enforces again what it has learnt: another limit has opened the breaker after the evidence"];
  return [`would have opened: ${number.format(e.failures)} of ${number.format(e.calls)} calls failed, and at most ${percent(e.failure_ratio)} do when it is healthy; it learns in shadow mode`];
}
