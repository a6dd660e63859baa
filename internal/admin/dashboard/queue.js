import { $, h, keepFocus, place, said, set } from "./dom.js";
import { act } from "./dialogs.js";
import { call, get } from "./api.js";
import { ago, clock } from "./time.js";

const shown = 100;
const rows = new Map(), headings = new Map(); // by request, by service
let body, table;

function verb(request, button, title, text, path, method) {
  return h("button", { type: "button", "aria-label": `${button} ${request.id}`, onclick: () => act({
    title: `${title} ${request.id}`, text, button,
    send: async ({ reason }) => {
      await call(`queue/${encodeURIComponent(request.id)}${path}?reason=${encodeURIComponent(reason)}`, { method });
      await load();
    },
  }) }, button);
}

// row is a request's row, a new one if anything in it has changed but its buttons, which may have the focus.
function row(r) {
  const seen = JSON.stringify(r), known = rows.get(r.id);
  if (known?.seen === seen) return known.row;
  const cells = [h("td", {}, r.id), h("td", { class: r.state === "dead" ? "open" : "" }, r.state), h("td", { class: "long" }, said(`${r.method} ${r.path}`)), h("td", {}, `${r.bytes} B`),
    h("td", {}, clock(r.accepted)), h("td", {}, String(r.attempts)), h("td", { class: "long" }, said([r.cause, r.last_error].filter(Boolean).join(": ")))];
  const buttons = known?.buttons || h("td", {}, verb(r, "Retry", "Retry", "It is tried now; a dead one begins again.", "/retry", "POST"), " ",
    verb(r, "Drop", "Drop", "It is gone then, and never delivered.", "", "DELETE"));
  const line = known?.row || h("tr", { "data-id": r.id }, buttons);
  while (line.firstChild !== buttons) line.firstChild.remove();
  buttons.before(...cells);
  rows.set(r.id, { seen, row: line, buttons });
  return line;
}

function heading(name, q) {
  if (!headings.has(name)) headings.set(name, h("p", { "data-queue": name }, h("strong", {}, name), h("span"), h("span"), h("span")));
  const line = headings.get(name), [, before, dead, after] = line.children;
  set(before, `: ${q.waiting} waiting${q.oldest ? `, the oldest for ${ago(q.oldest)}` : ""}, `);
  dead.className = q.dead ? "open" : "";
  set(dead, `${q.dead} dead`);
  set(after, `; ${q.accepted} accepted, ${q.delivered} delivered, ${q.retried} retried since the start`);
  return line;
}

function make() {
  const columns = ["id", "state", "request", "body", "accepted", "attempts", "last error", "what to do"];
  body = h("tbody");
  table = h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "queued requests" }, h("table", { "aria-label": "queued requests" },
    h("thead", {}, h("tr", {}, ...columns.map((c) => h("th", { scope: "col" }, c)))), body));
}

// load shows the queues as they are.
export async function load() {
  const { queues, requests, more } = await get(`queue?limit=${shown}`);
  const used = (q) => q.waiting || q.dead || q.accepted || q.taken_over;
  const names = Object.keys(queues).filter((name) => used(queues[name])).sort();
  if (!table) make();
  const dead = Object.values(queues).reduce((n, q) => n + q.dead, 0);
  keepFocus(() => {
    set($("dead"), `${dead} dead ${dead === 1 ? "letter" : "letters"} in the queue`);
    $("dead").hidden = !dead;
    if (dead) $("troubled-nav").hidden = false;
    place(body, requests.map(row));
    const left = new Set(requests.map((r) => r.id));
    for (const id of rows.keys()) if (!left.has(id)) rows.delete(id);
    place($("queue"), [...(names.length ? names.map((name) => heading(name, queues[name])) : [h("p", { class: "soft" }, "Nothing has been queued.")]),
      ...(requests.length ? [table] : []), ...(more ? [h("p", { class: "soft" }, `The first ${shown} are shown.`)] : [])]);
  }, () => [table, $("queue-title")]);
}
