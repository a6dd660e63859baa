/* global uPlot */
import { $, h, setText, throttle } from "./dom.js";
import { get } from "./api.js";
import { describeForecast, failurePoints, forecastOf, latencyPoints, setForecasts } from "./forecast.js";
import { aggregate, appendPoints, hour, step, withGaps, withPrediction } from "./trends.js";
import { formatSeconds, formatTime, formatTimeOfDay, now } from "./time.js";

const allServices = ""; // value of the option
let trends = new Map(); // by service, in the format of the API
let plots = [];

// Colours that people with colour blindness can distinguish, in both themes (palette of Okabe and Ito).
const green = "#009e73", red = "#d55e00", orange = "#e69f00", grey = "#8a93a0", blue = "#56b4e9", purple = "#cc79a7";

// Lines of a chart differ in their style as well as in their colour.
const lines = [{ width: 2 }, { width: 2, dash: [7, 3] }, { width: 2, dash: [2, 3] }, { width: 1 }], markers = ["solid", "dashed", "dotted", "solid"];

const predictedLine = { width: 1.5, dash: [4, 4], spanGaps: true };

const mapPoints = (t, f) => t.time.map((_, i) => f(i));
const charts = [
  {
    title: "Requests per second",
    series: [["success", green], ["failure", red], ["rejected", orange], ["cancelled", grey]],
    data: (t) => [t.success, t.failure, t.rejected, t.cancelled],
    format: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s",
  },
  {
    title: "Response time",
    series: [["p50", green], ["p95", orange], ["p99", red]],
    data: (t) => [t.p50, t.p95, t.p99],
    predicted: { label: "p95 predicted", stroke: orange, points: (forecast, t) => latencyPoints(forecast, t.p95.at(-1)) },
    format: formatSeconds,
  },
  {
    title: "Failure rate",
    series: [["failure rate of upstream calls", red]],
    data: (t) => [mapPoints(t, (i) => (t.success[i] + t.failure[i] > 0 ? (100 * t.failure[i]) / (t.success[i] + t.failure[i]) : null))],
    predicted: { label: "predicted", stroke: red, points: failurePoints },
    format: (v) => v.toFixed(1) + " %",
    range: [0, 100],
  },
  { title: "Fallbacks per second", series: [["fallback responses", purple]], data: (t) => [t.fallbacks], format: (v) => v.toFixed(v < 10 ? 2 : 0) + "/s" },
];

function createPlot(chart) {
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--muted"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false } };
  const box = h("figure", { class: "chart", role: "group", "aria-label": chart.title }, h("h3", {}, chart.title));
  $("charts").append(box);
  const value = (_, v) => (v == null ? "–" : chart.format(v)), line = (i) => (i > chart.series.length ? predictedLine : lines[i - 1]);
  const width = () => Math.max(220, box.clientWidth - 20);
  const plot = new uPlot(
    {
      width: width(), height: 190, padding: [null, 24, null, null], cursor: { sync: { key: "hour" } }, legend: { markers: { width: (_, i) => line(i).width, dash: (_, i) => (i > chart.series.length ? "dashed" : markers[i - 1]) } },
      scales: { y: { range: (_, low, high) => chart.range || [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, space: 80, size: 28, values: ticks }, { ...axis, size: 62, values: (_, values) => values.map(chart.format) }],
      series: [
        { label: "time", value: (_, at) => (at == null ? "–" : formatTime(at * 1000)) },
        ...chart.series.map(([label, stroke], i) => ({ label, stroke, ...lines[i], value })),
        ...(chart.predicted ? [{ ...chart.predicted, ...predictedLine, value }] : []),
      ],
    },
    columnsOf(chart, null), box);
  makeLegendAccessible(plot);
  if (chart.predicted) plot.root.dataset.predicted = "never";
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

// columnsOf returns the data of a chart: times, curves, and predicted values if it shows them. t is null if there are no points, and
// forecast if there is none.
function columnsOf(chart, t, forecast = null) {
  const columns = t ? withGaps([t.time, ...chart.data(t)]) : [[], ...chart.series.map(() => [])];
  return chart.predicted ? withPrediction(columns, forecast && t?.time.length ? chart.predicted.points(forecast, t) : []) : columns;
}

function draw() {
  const name = $("chart-service").value, one = name !== allServices;
  const list = one ? [trends.get(name)].filter(Boolean) : [...trends.values()];
  const t = list.length ? aggregate(list) : null;
  const current = now() / 1000, last = t?.time.at(-1), data = plots.map(({ chart }) => columnsOf(chart, t, one ? forecastOf(name) : null));
  const until = Math.max(last || current, ...data.map(([times]) => times.at(-1) || 0));
  plots.forEach(({ plot, chart }, i) => {
    if (chart.predicted) plot.root.dataset.predicted = one ? data[i][0].at(-1) > last : "never";
    plot.setData(data[i], false);
    const from = last ? Math.max(t.time[0] - step / 1000, last - hour) : current - 60;
    plot.batch(() => {
      plot.setScale("x", { min: from, max: until });
    });
    if (plot.cursor.left < 0) plot.setLegend({ idx: data[i][0].findLastIndex((at) => at <= last) }); // shows the newest values unless the pointer is on the chart
  });
  $("forecast").hidden = !one;
  setText($("forecast"), one ? describeForecast(name) : "");
  $("charts").dataset.points = t ? t.time.length : 0;
  $("charts").dataset.predicted = until - (last || current); // seconds
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
  setForecasts(new Map(Object.entries(services).map(([name, { forecast }]) => [name, forecast])));
  trends = new Map(Object.entries(services).map(([name, { forecast, ...add }]) => [name, trends.has(name) ? appendPoints(trends.get(name), add, newest) : add]));
  updateOptions([...trends.keys()].sort());
  draw();
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
