/* global uPlot */
import { $, h, soon } from "./dom.js";
import { get } from "./api.js";
import { clock, now, timeOfDay } from "./time.js";

const step = 5000, hour = 3600;
const all = "";
let trends = new Map(); // by service, as the API has them
let plots = [];

// Colours that can be told apart by most eyes, in both themes (Okabe and Ito's).
const green = "#009e73", red = "#d55e00", orange = "#e69f00", grey = "#8a93a0", blue = "#56b4e9", purple = "#cc79a7";

// Lines differ in more than their colour.
const lines = [{ width: 2 }, { width: 2, dash: [7, 3] }, { width: 2, dash: [2, 3] }, { width: 1 }], markers = ["solid", "dashed", "dotted", "solid"];

const each = (t, f) => t.time.map((_, i) => f(i));
const kinds = [
  {
    title: "Requests a second",
    series: [["success", green], ["failure", red], ["rejected", orange], ["cancelled", grey]],
    data: (t) => [t.success, t.failure, t.rejected, t.cancelled],
    unit: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s",
  },
  { title: "Response time", series: [["p50", green], ["p95", orange], ["p99", red]], data: (t) => [t.p50, t.p95, t.p99], unit: time },
  {
    title: "Failure rate",
    series: [["failure rate of upstream calls", red]],
    data: (t) => [each(t, (i) => (t.success[i] + t.failure[i] > 0 ? (100 * t.failure[i]) / (t.success[i] + t.failure[i]) : null))],
    unit: (v) => v.toFixed(1) + " %",
    range: [0, 100],
  },
  { title: "Fallbacks a second", series: [["answered by a fallback", purple]], data: (t) => [t.fallbacks], unit: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s" },
];

function time(s) {
  return s < 1 ? (1000 * s).toFixed(s < 0.01 ? 1 : 0) + " ms" : s.toFixed(1) + " s";
}

// sum adds up what can be added, and takes the worst of what can't.
function sum(list) {
  if (list.length === 1) return list[0];
  const times = [...new Set(list.flatMap((t) => t.time))].sort((a, b) => a - b);
  const places = new Map(times.map((t, i) => [t, i]));
  const out = { time: times };
  for (const curve of ["success", "failure", "rejected", "cancelled", "fallbacks", "p50", "p95", "p99"]) {
    const worst = curve[0] === "p";
    out[curve] = times.map(() => (worst ? null : 0));
    for (const t of list) {
      t.time.forEach((at, i) => {
        const place = places.get(at), v = t[curve][i];
        if (v != null) out[curve][place] = worst ? Math.max(out[curve][place] ?? 0, v) : out[curve][place] + v;
      });
    }
  }
  return out;
}

// gaps breaks curves where the proxy was not looking.
function withGaps(columns) {
  const [times, ...curves] = columns;
  const out = columns.map(() => []);
  times.forEach((at, i) => {
    if (i && at - times[i - 1] > (2.5 * step) / 1000) {
      out[0].push(at - 1);
      curves.forEach((_, c) => out[c + 1].push(null));
    }
    out[0].push(at);
    curves.forEach((curve, c) => out[c + 1].push(curve[i]));
  });
  return out;
}

function make(kind) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--soft"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false } };
  const box = h("figure", { class: "chart", role: "group", "aria-label": kind.title }, h("h3", {}, kind.title));
  $("charts").append(box);
  const width = () => Math.max(220, box.clientWidth - 20);
  const plot = new uPlot(
    {
      width: width(), height: 190, padding: [null, 24, null, null], cursor: { sync: { key: "hour" } }, legend: { markers: { width: (_, i) => lines[i - 1].width, dash: (_, i) => markers[i - 1] } },
      scales: { y: { range: (_, low, high) => kind.range || [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, space: 80, size: 28, values: ticks }, { ...axis, size: 62, values: (_, values) => values.map(kind.unit) }],
      series: [
        { label: "time", value: (_, at) => (at == null ? "–" : clock(at * 1000)) },
        ...kind.series.map(([label, stroke], i) => ({ label, stroke, ...lines[i], value: (_, v) => (v == null ? "–" : kind.unit(v)) })),
      ],
    },
    [[], ...kind.series.map(() => [])], box);
  operable(plot);
  new ResizeObserver(() => plot.setSize({ width: width(), height: 190 })).observe(box);
  return { kind, plot };
}

// operable lets the keyboard, too, hide and show a chart's lines by their names.
function operable(plot) {
  plot.root.querySelector(".u-legend").setAttribute("role", "presentation");
  const [, ...names] = plot.root.querySelectorAll(".u-series th");
  names.forEach((name, i) => {
    const tell = () => name.setAttribute("aria-pressed", plot.series[i + 1].show);
    name.tabIndex = 0;
    name.setAttribute("role", "button");
    name.addEventListener("click", tell);
    name.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" && e.key !== " ") return;
      e.preventDefault();
      name.click();
    });
    tell();
  });
}

// ticks are times of day, with seconds where minutes are too coarse.
function ticks(_, times, __, ___, distance) {
  return times.map((at) => timeOfDay(at * 1000).slice(0, distance < 60 ? 8 : 5));
}

function draw() {
  const name = $("chart-service").value;
  const list = name === all ? [...trends.values()] : [trends.get(name)].filter(Boolean);
  const t = list.length ? sum(list) : null;
  const here = now() / 1000;
  for (const { kind, plot } of plots) {
    plot.setData(t ? withGaps([t.time, ...kind.data(t)]) : [[], ...kind.series.map(() => [])], false);
    const from = t?.time.length ? Math.max(t.time[0] - step / 1000, t.time.at(-1) - hour) : here - 60;
    plot.batch(() => {
      plot.setScale("x", { min: from, max: t?.time.at(-1) || here });
    });
    if (plot.cursor.left < 0) plot.setLegend({ idx: plot.data[0].length - 1 }); // the newest, unless one is pointed at
  }
  $("charts").dataset.points = t ? t.time.length : 0;
}

function choose(names) {
  const select = $("chart-service"), chosen = select.value;
  const wanted = ["all services", ...names];
  if ([...select.options].map((o) => o.text).join("\n") === wanted.join("\n")) return;
  select.replaceChildren(...wanted.map((name, i) => h("option", { value: i ? name : all }, name)));
  select.value = names.includes(chosen) ? chosen : all;
}

// load fetches what is new, and draws it.
async function load() {
  const newest = Math.max(0, ...[...trends.values()].map((t) => t.time.at(-1) || 0));
  const { services } = await get("trends?after=" + newest);
  trends = new Map(Object.entries(services).map(([name, add]) => [name, trends.has(name) ? joined(trends.get(name), add, newest) : add]));
  choose([...trends.keys()].sort());
  draw();
}

// joined is a trend with what is new, of at most an hour.
function joined(t, add, newest) {
  const after = (add.time.at(-1) || newest) - hour, old = t.time.filter((at) => at <= after).length;
  return Object.fromEntries(Object.keys(add).map((curve) => [curve, t[curve].slice(old).concat(add[curve])]));
}

// start draws for ever.
export function start() {
  plots = kinds.map(make);
  $("chart-service").addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach(({ plot }) => plot.destroy());
    $("charts").replaceChildren();
    plots = kinds.map(make);
    draw();
  });
  const turn = soon(load, 0);
  turn();
  setInterval(turn, step);
}
