import { h } from "./dom.js";
import { formatDuration, formatTime, formatTimeOfDay } from "./time.js";

const width = 1000; // of a chart, in its own units
const height = 100;
const ticks = 5;

function svg(name, attributes = {}, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

const number = new Intl.NumberFormat();
export const formatNumber = (n) => number.format(n);

// plural returns a number with a noun.
export const plural = (n, noun) => `${formatNumber(n)} ${noun}${n === 1 ? "" : "s"}`;

// drawCalls returns a chart of the calls in parts of the time: failures at the bottom, then the other calls, then those that were not made.
export function drawCalls(buckets, until) {
  const from = Date.parse(buckets[0].time), step = (until - from) / buckets.length / 1000, most = Math.max(1, ...buckets.map((b) => b.calls));
  const bars = buckets.flatMap((b, i) => {
    if (!b.calls) return [];
    let bottom = height;
    const parts = [["failures", b.failures], ["made", b.calls - b.failures - b.rejected], ["rejected", b.rejected]].filter(([, n]) => n).map(([kind, n]) => {
      const size = (n / most) * height;
      bottom -= size;
      return svg("rect", { class: kind, x: ((i + 0.08) * width) / buckets.length, y: bottom, width: (0.84 * width) / buckets.length, height: size });
    });
    return [svg("g", {}, svg("title", {}, `${formatTime(b.time)}: ${plural(b.calls, "call")}, ${formatNumber(b.failures)} failed, ${formatNumber(b.rejected)} not made`), ...parts)];
  });
  const worst = buckets.reduce((a, b) => (b.failures > a.failures ? b : a));
  const total = (key) => buckets.reduce((sum, b) => sum + b[key], 0);
  const text = `${plural(total("calls"), "call")}, ${formatNumber(total("failures"))} failed, ${formatNumber(total("rejected"))} not made` +
    (worst.failures ? `; most failures from ${formatTime(worst.time)} on: ${formatNumber(worst.failures)} of ${plural(worst.calls, "call")}` : "");
  return h("div", {}, h("p", { class: "muted" }, `up to ${plural(most, "call")} in ${step < 60 ? `${Number(step.toPrecision(2))} s` : `${Number((step / 60).toPrecision(2))} min`}`),
    svg("svg", { class: "calls", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": text }, ...bars));
}

// drawAxis returns the times below the charts.
export function drawAxis(from, until) {
  const times = Array.from({ length: ticks }, (_, i) => from + ((until - from) * i) / (ticks - 1));
  return h("p", { class: "axis muted", "aria-hidden": "true" }, ...times.map((at) => h("span", {}, formatTimeOfDay(at).slice(0, 5))));
}

// phasesOf returns the phases, clipped to a time in ms, in which a breaker was not closed. first is its state before the transitions.
export function phasesOf(transitions, first, from, until) {
  const phases = [];
  const add = (state, begin, end, cause) => {
    if (state !== "closed" && end > from && begin < until) phases.push({ state, begin: Math.max(begin, from), end: Math.min(end, until), cause });
  };
  let state = first, since = from, cause = "";
  for (const t of transitions) {
    const at = Date.parse(t.time);
    add(state, since, at, cause);
    [state, since, cause] = [t.to, at, t.cause];
  }
  add(state, since, until, cause);
  return phases;
}

const minSize = 2; // in units of the chart: the width of a short phase, and the distance below which phases are drawn as one

// drawLane returns a lane that shows when a breaker was not closed: a high bar for open, a low one for half-open, a frame for not known.
export function drawLane(name, phases, from, until) {
  const place = (at) => ((at - from) / (until - from)) * width;
  const bars = [], shapes = { open: [0, 100], "half-open": [55, 45], unknown: [0, 100] };
  for (const state of ["unknown", "half-open", "open"]) {
    let last = null;
    for (const p of phases.filter((p) => p.state === state)) {
      const x = Math.min(place(p.begin), width - minSize), end = Math.max(place(p.end), x + minSize);
      if (last && x - last.end < minSize) {
        Object.assign(last, { end, until: p.end, count: last.count + 1 });
        continue;
      }
      last = { state, x, end, since: p.begin, until: p.end, count: 1, cause: p.cause };
      bars.push(last);
    }
  }
  const rects = bars.map((b) => {
    const [y, size] = shapes[b.state], cause = b.count > 1 ? `${b.count} times` : b.cause.replaceAll("_", " ");
    return svg("rect", { class: b.state, x: b.x, y, width: b.end - b.x, height: size }, svg("title", {}, `${b.state}${cause ? `, ${cause}` : ""}: ${formatTime(b.since)} to ${formatTimeOfDay(b.until)}`));
  });
  return h("div", { class: "lane" }, h("span", { class: "lane-name" }, name),
    svg("svg", { viewBox: `0 0 ${width} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${describe(phases)}` }, ...rects));
}

// describe returns a sentence about the phases of a lane for screen readers.
function describe(phases) {
  const open = phases.filter((p) => p.state === "open"), total = open.reduce((sum, p) => sum + p.end - p.begin, 0) / 1000;
  const unknown = phases.find((p) => p.state === "unknown");
  const known = unknown ? `not known before ${formatTime(unknown.end)}; ` : "";
  if (!open.length) return known + "never open";
  return `${known}open ${open.length === 1 ? "once" : `${open.length} times`}, for ${formatDuration(total)} in total, first at ${formatTime(open[0].begin)}`;
}

// drawLegend explains the charts. withUnknown is whether a part of a lane is not known.
export function drawLegend(withUnknown) {
  const item = (kind, text) => h("span", {}, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: kind, x: 0.5, y: kind === "half-open" ? 5.5 : 0.5, width: 9, height: kind === "half-open" ? 4.5 : 9 })), text);
  return h("p", { class: "legend" }, item("failures", "failed"), item("made", "other calls"), item("rejected", "not made"), item("open", "breaker open"), item("half-open", "half-open"), withUnknown && item("unknown", "not known"));
}
