import { h, setText } from "./dom.js";
import { faultText, showFault } from "./forms.js";

const ratios = [0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const windows = ["1s", "2s", "5s", "10s", "15s", "30s", "45s", "1m", "2m", "5m", "10m", "30m", "1h"];

// fields are the thresholds. steps are the values of the slider; choices are all values; only is the algorithms that use the threshold, all if it is missing.
const fields = [
  { key: "fail_max", label: "Consecutive failures", hint: "0: never", steps: [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100] },
  { key: "failure_ratio", label: "Share of failures", hint: "0: never", steps: ratios, only: ["ratio", "count"] },
  { key: "slow_call_ratio", label: "Share of slow calls", hint: "0: never", steps: ratios, only: ["ratio", "count"] },
  { key: "slow_call_duration", label: "A call is slow from", steps: ["100ms", "200ms", "500ms", "1s", "2s", "3s", "5s", "8s", "10s", "15s", "20s", "30s", "1m"], only: ["ratio", "count", "expression"] },
  { key: "min_requests", label: "Calls before a share counts", steps: [1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000], only: ["ratio", "count", "budget"] },
  { key: "window", label: "Window of the shares", steps: windows, only: ["ratio", "throttle", "expression"] },
  { key: "count.calls", label: "Calls in the window", initial: 100, steps: [10, 20, 30, 50, 75, 100, 150, 200, 500, 1000, 5000, 10000], only: ["count"] },
  { key: "budget.objective", label: "Share that is to succeed", initial: 0.995, steps: [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999], only: ["budget"] },
  { key: "budget.burn_rate", label: "Burn rate that opens", initial: 14.4, steps: [1, 2, 3, 5, 6, 8, 10, 14.4, 20, 30, 50, 100, 200], only: ["budget"] },
  { key: "budget.short", label: "Short window", initial: "1m", steps: windows, only: ["budget"] },
  { key: "budget.long", label: "Long window", initial: "10m", steps: [...windows, "2h", "6h"], only: ["budget"] },
  { key: "throttle.success_ratio", label: "Rejects below this share of successes", initial: 0.95, steps: [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99], only: ["throttle"] },
  { key: "throttle.aggression", label: "Aggression", initial: 1, steps: [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5], only: ["throttle"] },
  { key: "throttle.max_rejection", label: "Largest share rejected", initial: 0.8, steps: ratios, only: ["throttle"] },
  { key: "throttle.min_rps", label: "From this number of calls per second", initial: 1, steps: [0, 0.5, 1, 2, 5, 10, 20, 50, 100], only: ["throttle"] },
  { key: "expression.open_when", label: "Opens when", initial: "", only: ["expression"] },
  { key: "adaptive.mode", label: "Unlikely failures", hint: "for what was learnt", choices: ["off", "shadow", "enforce"] },
  { key: "recovery_timeout", label: "Open for", steps: ["1s", "2s", "5s", "10s", "15s", "20s", "30s", "45s", "1m", "90s", "2m", "3m", "5m", "10m", "30m", "1h"] },
  { key: "recovery_backoff.multiplier", label: "Growth while recovery fails", hint: "1: none", steps: [1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 10] },
];

// algorithms are those that the proxy has. One that it has beside them has no fields of its own.
export const algorithms = ["ratio", "count", "budget", "expression", "throttle"];

// defaults are the options of the algorithms by default.
export const defaults = Object.fromEntries(fields.filter((f) => "initial" in f).map((f) => [f.key, f.initial]));

const units = { ns: 1e-9, us: 1e-6, "µs": 1e-6, ms: 0.001, s: 1, m: 60, h: 3600 };

// toNumber returns a number, or a duration such as 1m30s in seconds; NaN for any other text.
function toNumber(text) {
  const parts = [...String(text).matchAll(/([0-9.]+)(ns|us|µs|ms|s|m|h)/g)];
  if (!parts.length || parts.map((p) => p[0]).join("") !== text) return String(text).trim() === "" ? NaN : Number(text);
  return parts.reduce((sum, [, n, unit]) => sum + Number(n) * units[unit], 0);
}

const same = (a, b) => String(a).trim() === String(b) || toNumber(a) === toNumber(b);

// lookup returns the value at a key such as recovery_backoff.multiplier.
const lookup = (object, key) => key.split(".").reduce((o, name) => o?.[name], object);

// set sets the value at a key.
function set(object, key, value) {
  const names = key.split("."), last = names.pop();
  names.reduce((o, name) => (o[name] ??= {}), object)[last] = value;
}

// scalar returns a value in YAML.
const scalar = (v) => (typeof v === "number" || (/^[a-z0-9][a-z0-9_.]*$/.test(v) && !/^(true|false|null|yes|no|on|off|y|n)$/.test(v)) ? String(v) : JSON.stringify(v));

// toYAML returns the lines of a mapping in YAML.
export function toYAML(object, indent) {
  return Object.entries(object).map(([key, v]) => " ".repeat(indent) + key + ":" + (typeof v === "object" ? "\n" + toYAML(v, indent + 2) : ` ${scalar(v)}\n`)).join("");
}

// createThresholds returns the controls of a breaker's thresholds. onChange is called when the user changes one.
export function createThresholds(onChange) {
  let running = {}; // the values in force
  const choice = h("select", { id: "whatif-algorithm", "aria-describedby": "whatif-algorithm-fault", onchange: () => changed() });
  const choiceFault = h("p", { id: "whatif-algorithm-fault", class: "fault", hidden: true });
  const choiceRunning = h("span", { class: "muted" });
  const controls = fields.map((f) => createControl(f, () => changed()));
  const choiceRow = h("div", { class: "threshold" }, h("label", { for: "whatif-algorithm" }, "Algorithm ", h("code", {}, "algorithm")), choiceRunning, choice, choiceFault);
  const element = h("form", { class: "thresholds", "aria-label": "Thresholds", onsubmit: (e) => e.preventDefault() }, choiceRow, ...controls.map((c) => c.element));
  const initial = (c) => lookup(running, c.key) ?? c.initial ?? ""; // an option of another algorithm than that in force has its default

  function changed() {
    show();
    onChange();
  }

  // show shows the controls that the algorithm uses, and which of them are changed.
  function show() {
    for (const c of controls) c.show(!c.only || c.only.includes(choice.value), initial(c), lookup(running, c.key) === undefined ? "by default" : "in force");
    choiceRow.classList.toggle("changed", choice.value !== running.algorithm);
    setText(choiceRunning, choice.value === running.algorithm ? "" : ` in force: ${running.algorithm}`);
  }

  // load shows the values in force, and sets those of changes, if there are any.
  function load(breaker) {
    running = breaker;
    const names = algorithms.includes(breaker.algorithm) ? algorithms : [breaker.algorithm, ...algorithms];
    choice.replaceChildren(...names.map((name) => h("option", {}, name)));
    choice.value = breaker.algorithm;
    for (const c of controls) c.set(initial(c));
    show();
    showFaults([]);
  }

  // changes returns the keys that differ from those in force, as an object in the form of the configuration.
  function changes() {
    const all = {};
    if (choice.value !== running.algorithm) all.algorithm = choice.value;
    for (const c of controls) if (!c.element.hidden && !same(c.text(), initial(c))) set(all, c.key, c.value());
    return all;
  }

  // showFaults shows faults such as "breaker.fail_max: must be …" at their controls, and returns the others.
  function showFaults(faults) {
    const left = new Set(faults), find = (key) => faultText(left, `breaker.${key}`);
    for (const c of controls) c.showFault(c.element.hidden ? "" : find(c.key));
    showFault(choice, choiceFault, find("algorithm"));
    return [...left];
  }
  return { element, load, changes, showFaults };
}

// createControl returns a field for a threshold: a list if it has choices, and with a slider if it has steps.
function createControl({ key, label, hint, steps, choices, initial, only }, onChange) {
  const id = "whatif-" + key.replaceAll(".", "-");
  let values = steps; // of the slider: the steps, and the value in force
  const fault = h("p", { id: id + "-fault", class: "fault", hidden: true }), note = h("span", { class: "muted" });
  const described = { id, "aria-describedby": id + "-fault" };
  const field = choices ? h("select", { ...described, onchange: onChange }, ...choices.map((c) => h("option", {}, c))) : h("input", { ...described, autocomplete: "off", spellcheck: "false", inputmode: steps && typeof steps[0] === "number" ? "decimal" : null, oninput: () => {
    placeSlider();
    onChange();
  } });
  const slider = steps && h("input", { type: "range", min: 0, step: 1, "aria-label": label, oninput: () => {
    field.value = values[slider.value];
    slider.setAttribute("aria-valuetext", field.value);
    onChange();
  } });
  const element = h("div", { class: "threshold", "data-key": key }, h("label", { for: id }, label, " ", h("code", {}, key)), note, slider, field, fault);

  // placeSlider moves the slider to the step that is nearest to the field's value.
  function placeSlider() {
    if (!slider) return;
    slider.setAttribute("aria-valuetext", field.value);
    const at = toNumber(field.value), distance = (i) => Math.abs(toNumber(values[i]) - at);
    if (!Number.isNaN(at)) slider.value = values.reduceRight((best, _, i) => (distance(i) < distance(best) ? i : best), values.length - 1);
    else if (values.includes(field.value)) slider.value = values.indexOf(field.value); // auto
  }

  function setValue(value) {
    if (slider) {
      const isNumber = !Number.isNaN(toNumber(value));
      values = value === "" || steps.some((s) => same(s, value)) ? steps : isNumber ? [...steps, value].sort((a, b) => toNumber(a) - toNumber(b)) : [value, ...steps]; // auto, …
      slider.max = values.length - 1;
    }
    field.value = value;
    placeSlider();
  }

  // show shows the control, or hides it, and whether it differs from a value, which is in force or the default.
  function show(visible, value, what) {
    const unchanged = same(field.value, value);
    element.hidden = !visible;
    element.classList.toggle("changed", !unchanged);
    if (unchanged) setText(note, hint ? ` ${hint}` : "");
    else setText(note, value === "" ? "" : ` ${what}: ${value}`);
  }

  // value returns what the field has, as a number if it is one.
  function value() {
    const text = field.value.trim(), isNumber = typeof (initial ?? steps?.[0]) === "number" && text !== "" && Number.isFinite(Number(text));
    return isNumber ? Number(text) : text;
  }
  return { key, initial, only, element, set: setValue, show, value, text: () => field.value, showFault: (text) => showFault(field, fault, text) };
}
