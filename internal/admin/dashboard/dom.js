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

// What does not print, or turns the direction of what follows; but for the joiners that scripts and
// emoji need.
const unseen = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

// plain is a text of others' with codes for what can't be seen, and at most so many characters of it.
export function plain(text, most = Infinity) {
  const all = [...text], left = all.length - most;
  return all.slice(0, most).join("").replace(unseen, (c) => `\\u{${c.codePointAt(0).toString(16)}}`) + (left > 0 ? `… (${left} more)` : "");
}

// said is a text of others', which must not change how what is around it is read.
export const said = (text) => h("bdi", {}, plain(text));

// place makes nodes an element's only children, in their order, and moves as few as that needs.
export function place(parent, nodes) {
  let at = parent.firstElementChild;
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling;
    else if (parent.moveBefore && node.isConnected) parent.moveBefore(node, at); // keeps its focus and its scrolling
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}

const visible = (e) => e?.isConnected && e.checkVisibility();

const onScreen = (e) => {
  const { top, bottom } = e.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
};

// keepFocus changes the page. What had the focus keeps it and stays on the screen, or leaves it to the
// first of its heirs that can be seen: the keyboard must not be thrown back to the top.
export function keepFocus(change, heirs) {
  const e = document.activeElement;
  if (e === document.body) return change();
  const seen = onScreen(e);
  change();
  if (document.activeElement !== e || !visible(e)) [e, ...heirs(e)].find(visible)?.focus({ preventScroll: true });
  if (seen && document.activeElement === e && !onScreen(e)) e.scrollIntoView({ block: "nearest" });
}

// soon does something a moment later, once however often it is asked to until then, and never twice at
// a time or sooner than gap after the last time.
export function soon(what, delay, gap = delay) {
  let asked = false, busy = false;
  const turn = async () => {
    asked = false;
    try {
      await what();
    } catch (e) {
      console.debug("not done:", e.message); // the event stream tells that the connection is lost
    }
    setTimeout(() => {
      busy = false;
      if (asked) ask();
    }, gap);
  };
  const ask = () => {
    asked = true;
    if (busy) return;
    busy = true;
    setTimeout(turn, delay);
  };
  return ask;
}
