// h makes an element. Text goes in as text alone, whatever is in it.
export function h(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value === true) e.setAttribute(key, "");
    else if (value !== false && value != null) e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c != null && c !== false));
  return e;
}

export const $ = (id) => document.getElementById(id);

// set changes an element's text only if it is another one, so that screen readers say it once.
export function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// span tells a number of seconds in its two largest units.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const [d, hours, m] = [Math.floor(s / 86400), Math.floor((s % 86400) / 3600), Math.floor((s % 3600) / 60)];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

export function clock(time) {
  const t = new Date(time);
  const today = t.toDateString() === new Date().toDateString();
  return (today ? "" : t.toLocaleDateString() + " ") + t.toLocaleTimeString([], { hour12: false });
}
