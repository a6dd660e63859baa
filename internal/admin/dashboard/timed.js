import { h, keepFocus, setChildren, setText } from "./dom.js";
import { formatDuration, now } from "./time.js";

// createTimed returns the part of a service's card with what operators have put into force for a time: a badge, and a list of entries.
// kind is the class of the list; label names it for screen readers, heading for others.
export function createTimed({ kind, label, heading }) {
  const list = h("ul"), items = new Map(); // by the id of the entry
  const timed = {
    badge: h("span", { class: "badge temporary", hidden: true }),
    element: h("section", { class: `timed ${kind}`, "aria-label": label, hidden: true }, h("p", { class: "temporary" }, heading), list),
  };
  // update shows entries: id, the nodes that describe it, until when it is in force, if it has an end of its own, and if it can be ended,
  // the name and the action of the button. An entry with the same id is the same.
  timed.update = (badge, entries) => {
    const ids = new Set(entries.map((e) => e.id));
    timed.element.hidden = !entries.length;
    timed.badge.hidden = !badge;
    setText(timed.badge, badge);
    for (const e of entries) if (!items.has(e.id)) items.set(e.id, createItem(e));
    for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
    const change = () => setChildren(list, entries.map((e) => items.get(e.id).element));
    if (list.contains(document.activeElement)) keepFocus(change, () => timed.element.closest(".card").querySelectorAll("button"));
    else change();
    timed.updateTimes();
  };
  // updateTimes updates what depends on the current time only.
  timed.updateTimes = () => items.forEach((item) => item.updateTimes());
  return timed;
}

function createItem({ attributes, nodes, until, button, title, end }) {
  const left = h("span", { class: "muted" });
  return {
    element: h("li", attributes, h("span", {}, ...nodes, until && " ", until && left), end && h("button", { type: "button", "aria-label": title, onclick: end }, button)),
    updateTimes: () => until && setText(left, `${formatDuration((new Date(until) - now()) / 1000)} left`),
  };
}
