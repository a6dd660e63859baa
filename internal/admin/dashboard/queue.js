import { $, h, isolated, keepFocus, setChildren, setText } from "./dom.js";
import { confirmAction } from "./dialogs.js";
import { call, get } from "./api.js";
import { formatAge, formatTime } from "./time.js";

const pageSize = 100;
const rows = new Map(), headings = new Map(); // by request id, by service
let body, table;

function actionButton(request, label, text, path, method) {
  const name = `${label} ${request.id}`;
  return h("button", { type: "button", "aria-label": name, onclick: () => confirmAction({
    title: name, text, button: label,
    send: async ({ reason }) => {
      await call(`queue/${encodeURIComponent(request.id)}${path}?reason=${encodeURIComponent(reason)}`, { method });
      await load();
    },
  }) }, label);
}

// row returns a request's row. If the request has changed, all cells are replaced but the buttons, which may have the focus.
function row(r) {
  const content = JSON.stringify(r), known = rows.get(r.id);
  if (known?.content === content) return known.element;
  const cells = [h("td", {}, r.id), h("td", { class: r.state === "dead" ? "open" : "" }, r.state), h("td", { class: "wrap" }, isolated(`${r.method} ${r.path}`)), h("td", {}, `${r.bytes} B`),
    h("td", {}, formatTime(r.accepted)), h("td", {}, String(r.attempts)), h("td", { class: "wrap" }, isolated([r.cause, r.last_error].filter(Boolean).join(": ")))];
  const buttons = known?.buttons || h("td", {}, actionButton(r, "Retry", "The request is delivered as soon as possible. A dead request is queued again with all its attempts.", "/retry", "POST"), " ",
    actionButton(r, "Drop", "The request is removed and will not be delivered.", "", "DELETE"));
  const element = known?.element || h("tr", { "data-id": r.id }, buttons);
  while (element.firstChild !== buttons) element.firstChild.remove();
  buttons.before(...cells);
  rows.set(r.id, { content, element, buttons });
  return element;
}

function heading(name, q) {
  if (!headings.has(name)) headings.set(name, h("p", { "data-queue": name }, h("strong", {}, name), h("span"), h("span"), h("span")));
  const element = headings.get(name), [, before, dead, after] = element.children;
  setText(before, `: ${q.waiting} waiting${q.oldest ? ` (oldest ${formatAge(q.oldest)})` : ""}, `);
  dead.className = q.dead ? "open" : "";
  setText(dead, `${q.dead} dead`);
  setText(after, `; since start ${q.accepted} accepted, ${q.delivered} delivered, ${q.retried} retried`);
  return element;
}

function createTable() {
  const columns = ["id", "state", "request", "body size", "accepted", "attempts", "last error", "actions"];
  body = h("tbody");
  table = h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "queued requests" }, h("table", { "aria-label": "queued requests" },
    h("thead", {}, h("tr", {}, ...columns.map((c) => h("th", { scope: "col" }, c)))), body));
}

// load fetches and shows the queues.
export async function load() {
  const { queues, requests, more } = await get(`queue?limit=${pageSize}`);
  const used = (q) => q.waiting || q.dead || q.accepted || q.taken_over;
  const names = Object.keys(queues).filter((name) => used(queues[name])).sort();
  if (!table) createTable();
  const dead = Object.values(queues).reduce((n, q) => n + q.dead, 0);
  keepFocus(() => {
    setText($("dead"), `${dead} dead ${dead === 1 ? "letter" : "letters"} in the queue`);
    $("dead").hidden = !dead;
    if (dead) $("attention-nav").hidden = false;
    setChildren(body, requests.map(row));
    const listed = new Set(requests.map((r) => r.id));
    for (const id of rows.keys()) if (!listed.has(id)) rows.delete(id);
    setChildren($("queue"), [...(names.length ? names.map((name) => heading(name, queues[name])) : [h("p", { class: "muted" }, "No requests have been queued.")]),
      ...(requests.length ? [table] : []), ...(more ? [h("p", { class: "muted" }, `Only the first ${pageSize} requests are shown.`)] : [])]);
  }, () => [table, $("queue-title")]);
}
