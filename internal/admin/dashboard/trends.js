// Trends in the format of the API: a list of times in Unix seconds, and lists of values by the name of their curve.
export const step = 5000; // ms between two points
export const hour = 3600; // s

// aggregate combines the trends of several services: the sum of rates and the maximum of response times.
export function aggregate(list) {
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
export function withGaps(columns) {
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

// withPrediction appends a column with predicted values, which are pairs of seconds from the last point on and a value, in their order.
export function withPrediction(columns, predicted) {
  const [times, ...curves] = columns, last = times.at(-1), future = predicted.filter(([seconds]) => seconds > 0);
  const now = future.length < predicted.length ? predicted[0][1] : null;
  return [[...times, ...future.map(([seconds]) => last + seconds)], ...curves.map((curve) => [...curve, ...future.map(() => null)]),
    [...times.slice(1).map(() => null), ...(times.length ? [now] : []), ...future.map(([, v]) => v)]];
}

// appendPoints returns a trend with new points added and those older than an hour removed.
export function appendPoints(t, add, newest) {
  const after = (add.time.at(-1) || newest) - hour, old = t.time.filter((at) => at <= after).length;
  return Object.fromEntries(Object.keys(add).map((curve) => [curve, t[curve].slice(old).concat(add[curve])]));
}
