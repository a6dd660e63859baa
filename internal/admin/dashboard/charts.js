/* global uPlot */
import { $, h, throttle } from "./dom.js";
import { get } from "./api.js";
import { formatTime, formatTimeOfDay, now } from "./time.js";

const step = 5000; // ms between two points
const hour = 3600; // s
const allServices = ""; // value of the option
let trends = new Map(); // by service, in the format of the API
let plots = [];

// Colours that people with colour blindness can distinguish, in both themes (palette of Okabe and Ito).
const green = "#009e73", red = "#d55e00", orange = "#e69f00", grey = "#8a93a0", blue = "#56b4e9", purple = "#cc79a7";

// Lines of a chart differ in their style as well as in their colour.
const lines = [{ width: 2 }, { width: 2, dash: [7, 3] }, { width: 2, dash: [2, 3] }, { width: 1 }], markers = ["solid", "dashed", "dotted", "solid"];

const mapPoints = (t, f) => t.time.map((_, i) => f(i));
const charts = [
  {
    title: "Requests per second",
    series: [["success", green], ["failure", red], ["rejected", orange], ["cancelled", grey]],
    data: (t) => [t.success, t.failure, t.rejected, t.cancelled],
    format: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s",
  },
  { title: "Response time", series: [["p50", green], ["p95", orange], ["p99", red]], data: (t) => [t.p50, t.p95, t.p99], format: formatSeconds },
  {
    title: "Failure rate",
    series: [["failure rate of upstream calls", red]],
    data: (t) => [mapPoints(t, (i) => (t.success[i] + t.failure[i] > 0 ? (100 * t.failure[i]) / (t.success[i] + t.failure[i]) : null))],
    format: (v) => v.toFixed(1) + " %",
    range: [0, 100],
  },
  { title: "Fallbacks per second", series: [["fallback responses", purple]], data: (t) => [t.fallbacks], format: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s" },
];

function formatSeconds(s) {
  return s < 1 ? (1000 * s).toFixed(s < 0.01 ? 1 : 0) + " ms" : s.toFixed(1) + " s";
}

// aggregate combines the trends of several services: the sum of rates and the maximum of response times.
function aggregate(list) {
  if (list.length === 1) return list[0];
  const times = [...new Set(list.flatMap((t) => t.time))].sort((a, b) => a - b);
  const indexes = new Map(times.map((t, i) => [t, i]));
  const out = { time: times };
  for (const curve of ["success", "failure", "rejected", "cancelled", "fallbacks", "p50", "p95", "p99"]) {
    const quantile = curve[0] === "p";
    out[curve] = times.map(() => (quantile ? null : 0));
    for (const t of list) {
      t.time.forEach((at, i) => {
        const index = indexes.get(at), v = t[curve][i];
        if (v != null) out[curve][index] = quantile ? Math.max(out[curve][index] ?? 0, v) : out[curve][index] + v;
      });
    }
  }
  return out;
}

// withGaps interrupts curves where points are missing, for example while the proxy was not running.
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

function createPlot(chart) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--muted"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false } };
  const box = h("figure", { class: "chart", role: "group", "aria-label": chart.title }, h("h3", {}, chart.title));
  $("charts").append(box);
  const width = () => Math.max(220, box.clientWidth - 20);
  const plot = new uPlot(
    {
      width: width(), height: 190, padding: [null, 24, null, null], cursor: { sync: { key: "hour" } }, legend: { markers: { width: (_, i) => lines[i - 1].width, dash: (_, i) => markers[i - 1] } },
      scales: { y: { range: (_, low, high) => chart.range || [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, space: 80, size: 28, values: ticks }, { ...axis, size: 62, values: (_, values) => values.map(chart.format) }],
      series: [
        { label: "time", value: (_, at) => (at == null ? "–" : formatTime(at * 1000)) },
        ...chart.series.map(([label, stroke], i) => ({ label, stroke, ...lines[i], value: (_, v) => (v == null ? "–" : chart.format(v)) })),
      ],
    },
    [[], ...chart.series.map(() => [])], box);
  makeLegendAccessible(plot);
  new ResizeObserver(() => plot.setSize({ width: width(), height: 190 })).observe(box);
  return { chart, plot };
}

// makeLegendAccessible makes the names in the legend buttons, so that lines can be hidden and shown with the keyboard.
function makeLegendAccessible(plot) {
  plot.root.querySelector(".u-legend").setAttribute("role", "presentation");
  const [, ...names] = plot.root.querySelectorAll(".u-series th");
  names.forEach((name, i) => {
    const updateState = () => name.setAttribute("aria-pressed", plot.series[i + 1].show);
    name.tabIndex = 0;
    name.setAttribute("role", "button");
    name.addEventListener("click", updateState);
    name.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" && e.key !== " ") return;
      e.preventDefault();
      name.click();
    });
    updateState();
  });
}

// ticks formats the times of the axis, with seconds if ticks are less than a minute apart.
function ticks(_, times, __, ___, distance) {
  return times.map((at) => formatTimeOfDay(at * 1000).slice(0, distance < 60 ? 8 : 5));
}

function draw() {
  const name = $("chart-service").value;
  const list = name === allServices ? [...trends.values()] : [trends.get(name)].filter(Boolean);
  const t = list.length ? aggregate(list) : null;
  const current = now() / 1000;
  for (const { chart, plot } of plots) {
    plot.setData(t ? withGaps([t.time, ...chart.data(t)]) : [[], ...chart.series.map(() => [])], false);
    const from = t?.time.length ? Math.max(t.time[0] - step / 1000, t.time.at(-1) - hour) : current - 60;
    plot.batch(() => {
      plot.setScale("x", { min: from, max: t?.time.at(-1) || current });
    });
    if (plot.cursor.left < 0) plot.setLegend({ idx: plot.data[0].length - 1 }); // shows the newest values unless the pointer is on the chart
  }
  $("charts").dataset.points = t ? t.time.length : 0;
}

// updateOptions updates the options for the service whose charts are shown.
function updateOptions(names) {
  const select = $("chart-service"), selected = select.value;
  const labels = ["all services", ...names];
  if ([...select.options].map((o) => o.text).join("\n") === labels.join("\n")) return;
  select.replaceChildren(...labels.map((name, i) => h("option", { value: i ? name : allServices }, name)));
  select.value = names.includes(selected) ? selected : allServices;
}

// load fetches the new points and draws them.
async function load() {
  const newest = Math.max(0, ...[...trends.values()].map((t) => t.time.at(-1) || 0));
  const { services } = await get("trends?after=" + newest);
  trends = new Map(Object.entries(services).map(([name, add]) => [name, trends.has(name) ? appendPoints(trends.get(name), add, newest) : add]));
  updateOptions([...trends.keys()].sort());
  draw();
}

// appendPoints returns a trend with new points added and those older than an hour removed.
function appendPoints(t, add, newest) {
  const after = (add.time.at(-1) || newest) - hour, old = t.time.filter((at) => at <= after).length;
  return Object.fromEntries(Object.keys(add).map((curve) => [curve, t[curve].slice(old).concat(add[curve])]));
}

// start creates the charts and updates them periodically.
export function start() {
  plots = charts.map(createPlot);
  $("chart-service").addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach(({ plot }) => plot.destroy());
    $("charts").replaceChildren();
    plots = charts.map(createPlot);
    draw();
  });
  const refresh = throttle(load, 0);
  refresh();
  setInterval(refresh, step);
}
