import { h, keepFocus, sanitize, setChildren, setText } from "./dom.js";
import { confirmAction, forceState } from "./dialogs.js";
import { get } from "./api.js";
import { durationValue } from "./forms.js";
import { formatAge, formatDuration, now } from "./time.js";

const maxShown = 10; // keys on a card
const maxText = 80; // characters of a key

// actions are the buttons of a key by the state that they force.
const actions = {
  open: { button: "Open", text: "Requests with this value get the fallback. They are not sent to the upstream.", duration: true },
  closed: { button: "Close", text: "Requests with this value are sent to the upstream, even if they fail.", duration: true },
  auto: { button: "Release", text: "The breaker of this value changes its state automatically again." },
};

// openKeysText says how many keys of a service are open or half-open; "" if none is.
export function openKeysText(s) {
  const held = s.keys ? s.keys.open + s.keys.half_open : 0;
  return held ? `${held} of ${s.keys.total} keys not closed` : "";
}

// createKeys returns the part of a service's card with the keys that need most attention. It is empty if the requests of the service are
// not judged by key. The keys are requested only while they are shown.
export function createKeys(name) {
  const badge = h("span", { class: "badge half-open", hidden: true });
  const list = h("ul"), summary = h("summary", { "aria-label": `Keys of ${name}` }), more = h("p", { class: "muted", hidden: true });
  const details = h("details", { ontoggle: () => load() }, summary, list, more);
  const element = h("section", { class: "keys", "aria-label": `keys of ${name}`, hidden: true }, details);
  const items = new Map(); // by key
  let heldBefore = 0, loading = false;

  // load requests the keys and shows them.
  async function load() {
    if (loading || !details.open || element.hidden) return;
    loading = true;
    try {
      show(await get(`circuit-breakers/${encodeURIComponent(name)}/keys?limit=${maxShown}`));
    } catch (e) {
      console.debug("cannot load the keys:", e.message); // a lost connection is shown by the event stream
    } finally {
      loading = false;
    }
  }

  function show({ keys }) {
    const shown = new Set(keys.map((k) => k.key));
    for (const key of items.keys()) if (!shown.has(key)) items.delete(key);
    for (const k of keys) {
      if (!items.has(k.key)) items.set(k.key, createItem(name, k.key, load));
      items.get(k.key).update(k);
    }
    const change = () => setChildren(list, keys.map((k) => items.get(k.key).element));
    if (list.contains(document.activeElement)) keepFocus(change, () => [summary]);
    else change();
  }

  // update shows the numbers of keys of a service. The list opens when the first one opens.
  function update(s) {
    element.hidden = !s.keys;
    badge.hidden = !openKeysText(s);
    setText(badge, openKeysText(s));
    if (!s.keys) return items.clear();
    const { total, open, half_open } = s.keys, held = open + half_open;
    const text = [`${total} ${total === 1 ? "key" : "keys"}`, open && `${open} open`, half_open && `${half_open} half-open`].filter(Boolean).join(", ");
    setText(summary, text);
    summary.ariaLabel = `Keys of ${name}: ${text}`;
    more.hidden = total <= maxShown;
    setText(more, `The first ${maxShown} of ${total}: forced, open, then by failures and by their last use.`);
    if (held && !heldBefore) details.open = true;
    heldBefore = held;
    load();
  }

  return { badge, element, update, updateTimes: () => items.forEach((item) => item.updateTimes()) };
}

// createItem returns the entry of one key. changed is called after an action.
function createItem(service, key, changed) {
  const text = sanitize(key, maxText), state = h("span"), counts = h("span", { class: "muted" });
  const run = (target) => confirmAction({
    ...actions[target], title: `${actions[target].button} the breaker of “${text}” of ${service}`,
    send: async ({ reason, duration }) => {
      const body = { state: target, key, reason };
      if (actions[target].duration && duration.trim()) body.duration = durationValue(duration);
      await forceState(service, body);
      changed();
    },
  });
  const buttons = Object.fromEntries(Object.entries(actions).map(([target, { button }]) => [target, h("button", { type: "button", "data-state": target, "aria-label": `${button} ${text} of ${service}`, onclick: () => run(target) }, button)]));
  let status;
  const item = {
    element: h("li", {}, h("span", {}, h("bdi", {}, text), " ", state, " ", counts), h("span", { class: "key-actions" }, ...Object.values(buttons))),
    update(k) {
      status = k;
      state.className = k.state;
      buttons.auto.hidden = !k.forced;
      buttons.open.hidden = buttons.closed.hidden = !!k.forced;
      item.updateTimes();
    },
    // updateTimes updates what depends on the current time only.
    updateTimes() {
      const { state: s, forced, retry_at, fail_counter, last_used } = status, end = forced ? forced.until : retry_at;
      const left = end && new Date(end) - now();
      setText(state, `${s}${forced ? ", forced" : ""}${left > 0 ? `, ${formatDuration(left / 1000)} left` : ""}`);
      setText(counts, `${fail_counter} ${fail_counter === 1 ? "failure" : "failures"}, ${last_used ? `used ${formatAge(last_used)} ago` : "not used"}`);
    },
  };
  return item;
}

// describeKey returns the text of an event about a key, which it does not name.
export const describeKey = (e) => [" breaker of a key: ", h("span", { class: e.from }, e.from), " → ", h("span", { class: e.to }, e.to), `: ${e.cause.replaceAll("_", " ")}${e.omitted ? ` (${e.omitted} more before)` : ""}`];
