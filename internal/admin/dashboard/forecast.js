import { formatDuration } from "./time.js";

const horizons = { "30s": 30, "5m": 300 }; // seconds, as the API names them
const names = { "30s": "30 s", "5m": "5 min" };
const minTrend = 0.0005; // a smaller change of the success ratio in a minute is none

let forecasts = new Map(); // by service

// setForecasts sets the forecasts of all services, in the format of the API.
export const setForecasts = (all) => (forecasts = all);

// forecastOf returns the forecast of a service; null if there is none.
export const forecastOf = (name) => forecasts.get(name) ?? null;

const percent = (ratio) => `${(100 * ratio).toFixed(1)} %`;

// good returns whether predictions with an error were better than the assumption that everything stays as it is. Without errors it is not known.
const good = (error, errorAsNow) => error === null || errorAsNow === null || error <= errorAsNow;

const ratioOf = (p) => (p && p.success_ratio !== null && good(p.error, p.error_as_now) ? p.success_ratio : null);
const latencyOf = (p) => (p && p.latency_p95 !== null && good(p.latency_error, p.latency_error_as_now) ? p.latency_p95 : null);

// points returns the predicted values from now on as pairs of seconds and a value. now is the current one; null: not known. Predictions that
// are worse than none are left out; it returns [] if all are.
function points(forecast, valueOf, now) {
  const predicted = Object.entries(horizons).map(([name, seconds]) => [seconds, valueOf(forecast.predictions[name])]).filter(([, v]) => v !== null);
  return predicted.length && now !== null ? [[0, now], ...predicted] : predicted;
}

export const failurePoints = (forecast) => points(forecast, ratioOf, forecast.success_ratio["1m"]).map(([at, v]) => [at, 100 * (1 - v)]);
export const latencyPoints = (forecast, now) => points(forecast, latencyOf, now ?? null);

// timeToOpen returns the seconds until the breaker of a service opens if the prediction comes true; null if it does not, or if predictions are bad.
function timeToOpen(forecast) {
  const seconds = forecast?.time_to_open ?? null;
  if (seconds === null) return null;
  return ratioOf(forecast.predictions[seconds <= horizons["30s"] ? "30s" : "5m"]) === null ? null : seconds;
}

// timeToOpenText says when the breaker of a service opens if the prediction comes true; "" if it does not.
export function timeToOpenText(name) {
  const seconds = timeToOpen(forecasts.get(name));
  return seconds === null ? "" : `may open in ${formatDuration(seconds)}`;
}

const reasons = {
  starting: "no prediction yet: it needs a minute of calls",
  few_calls: "no prediction: it needs 20 calls in 5 min",
  not_closed: "no prediction while the breaker is not closed",
};

// describeForecast returns a sentence about the success ratio of a service, now and predicted; "" if there are no calls.
export function describeForecast(name) {
  const f = forecasts.get(name);
  if (!f) return "";
  const now = f.success_ratio["1m"], parts = [now === null ? "Fewer than 10 calls in the last minute" : `${percent(now)} of the calls in the last minute succeeded`];
  if (f.reason) return `${parts[0]}; ${reasons[f.reason] || "no prediction"}.`;
  const predicted = Object.keys(horizons).map((h) => [h, ratioOf(f.predictions[h])]), shown = predicted.filter(([, v]) => v !== null);
  if (shown.length) parts.push(`predicted: ${shown.map(([h, v]) => `${percent(v)} in ${names[h]}`).join(", ")}`);
  for (const [h] of predicted.filter(([h, v]) => v === null && f.predictions[h].success_ratio !== null)) {
    const { error, error_as_now: asNow } = f.predictions[h];
    parts.push(`the prediction for ${names[h]} is not shown, as it was off by ${percent(error)} lately, and “as now” by ${percent(asNow)}`);
  }
  if (shown.length && f.trend !== null) parts.push(Math.abs(f.trend) < minTrend ? "steady" : `${f.trend < 0 ? "falling" : "rising"} by ${(100 * Math.abs(f.trend)).toFixed(1)} points a minute`);
  const open = timeToOpen(f);
  if (open !== null) parts.push(`the breaker would open in ${formatDuration(open)}`);
  return parts.join("; ") + ".";
}
