// The proxy's clock and the format of times.
let clockOffset = 0; // ms that this browser's clock is ahead of the proxy's

const minSkew = 5000; // ms; smaller differences are not shown

// syncClock sets the proxy's clock to a timestamp that was just received.
export function syncClock(timestamp) {
  clockOffset = Date.now() - new Date(timestamp);
}

// now returns the proxy's time in ms. The proxy's times are compared with it, so that a wrong clock of the browser does no harm.
export const now = () => Date.now() - clockOffset;

// skewText describes the difference between the clocks of the proxy and the browser; "" if it is small.
export function skewText() {
  if (Math.abs(clockOffset) < minSkew) return "";
  return `proxy clock ${formatDuration(Math.abs(clockOffset) / 1000)} ${clockOffset > 0 ? "behind" : "ahead of"} browser clock`;
}

// formatDuration formats a number of seconds with its two largest units.
export function formatDuration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const [d, hours, m] = [Math.floor(s / 86400), Math.floor((s % 86400) / 3600), Math.floor((s % 3600) / 60)];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

// formatSeconds formats a short duration, such as that of a call.
export function formatSeconds(s) {
  return s < 1 ? (1000 * s).toFixed(s < 0.01 ? 1 : 0) + " ms" : s.toFixed(1) + " s";
}

// formatAge formats the duration since a time.
export const formatAge = (time) => formatDuration((now() - new Date(time)) / 1000);

// Formatters are created once because that is slow.
const timeFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dateFormat = new Intl.DateTimeFormat([], { year: "numeric", month: "short", day: "numeric" });

// timeZone is the zone of all formatted times. The proxy's log uses UTC.
export const { timeZone } = timeFormat.resolvedOptions();

export const formatTimeOfDay = (time) => timeFormat.format(new Date(time));

// formatTime formats a time with its date unless that is today.
export function formatTime(time) {
  const today = new Date(time).toDateString() === new Date(now()).toDateString();
  return (today ? "" : dateFormat.format(new Date(time)) + " ") + formatTimeOfDay(time);
}
