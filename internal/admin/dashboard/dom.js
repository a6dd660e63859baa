// h creates an element. Strings become text nodes and are never parsed as HTML.
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

// setText sets the text of an element unless it is unchanged, so that screen readers announce it only once.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// Characters that are invisible or change the direction of the text after them, except the joiners that some scripts
// and emoji need.
const invisible = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

// sanitize escapes the invisible characters of an untrusted text and truncates it to a maximum number of characters.
export function sanitize(text, maxLength = Infinity) {
  const all = [...text], left = all.length - maxLength;
  return all.slice(0, maxLength).join("").replace(invisible, (c) => `\\u{${c.codePointAt(0).toString(16)}}`) + (left > 0 ? `… (${left} more)` : "");
}

// isolated returns an element with an untrusted text whose direction does not affect the text around it.
export const isolated = (text) => h("bdi", {}, sanitize(text));

// setChildren makes nodes the only children of an element, in their order, with as few moves as possible.
export function setChildren(parent, nodes) {
  let at = parent.firstElementChild;
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling;
    else if (parent.moveBefore && node.isConnected) parent.moveBefore(node, at); // preserves focus and scroll position
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}

const isVisible = (e) => e?.isConnected && e.checkVisibility();

const isOnScreen = (e) => {
  const { top, bottom } = e.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
};

// keepFocus calls change, which modifies the page, and keeps the focus on its element and the element on the screen. If
// the element is no longer visible, the first visible element of alternatives(element) gets the focus, as the browser
// would move it to the top of the page.
export function keepFocus(change, alternatives) {
  const e = document.activeElement;
  if (e === document.body) return change();
  const wasOnScreen = isOnScreen(e);
  change();
  if (document.activeElement !== e || !isVisible(e)) [e, ...alternatives(e)].find(isVisible)?.focus({ preventScroll: true });
  if (wasOnScreen && document.activeElement === e && !isOnScreen(e)) e.scrollIntoView({ block: "nearest" });
}

// throttle returns a function that runs task after delay ms. Calls before that are merged into one run. Runs never
// overlap and are at least gap ms apart.
export function throttle(task, delay, gap = delay) {
  let requested = false, scheduled = false;
  const run = async () => {
    requested = false;
    try {
      await task();
    } catch (e) {
      console.debug("update failed:", e.message); // a lost connection is shown by the event stream
    }
    setTimeout(() => {
      scheduled = false;
      if (requested) request();
    }, gap);
  };
  const request = () => {
    requested = true;
    if (scheduled) return;
    scheduled = true;
    setTimeout(run, delay);
  };
  return request;
}
