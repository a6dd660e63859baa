// The proxy's clock, and how times are told.
let ahead = 0; // ms that this browser's clock is ahead of the proxy's

const worthTelling = 5000; // ms

// adjust is told what time it is at the proxy.
export function adjust(timestamp) {
  ahead = Date.now() - new Date(timestamp);
}

// now is the time at the proxy, in ms: what it says is counted from that, however wrong this clock is.
export const now = () => Date.now() - ahead;

// skew says how wrong this browser's clock is, or the proxy's; "" if they agree.
export function skew() {
  if (Math.abs(ahead) < worthTelling) return "";
  return `its clock is ${span(Math.abs(ahead) / 1000)} ${ahead > 0 ? "behind" : "ahead of"} this browser's`;
}

// span tells a number of seconds in its two largest units.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const [d, hours, m] = [Math.floor(s / 86400), Math.floor((s % 86400) / 3600), Math.floor((s % 3600) / 60)];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

export const ago = (time) => span((now() - new Date(time)) / 1000);

// Made once, as making them is what takes long.
const ofDay = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const ofYear = new Intl.DateTimeFormat([], { year: "numeric", month: "short", day: "numeric" });

// zone is where times are told for; logs have UTC's.
export const { timeZone: zone } = ofDay.resolvedOptions();

export const timeOfDay = (time) => ofDay.format(new Date(time));

export function clock(time) {
  const today = new Date(time).toDateString() === new Date(now()).toDateString();
  return (today ? "" : ofYear.format(new Date(time)) + " ") + timeOfDay(time);
}
