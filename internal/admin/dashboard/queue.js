import { $, clock, h, span } from "./dom.js";
import { act } from "./dialogs.js";
import { call, get } from "./api.js";

const shown = 100;

function verb(request, button, title, text, path, method) {
  return h("button", { type: "button", onclick: () => act({
    title: `${title} ${request.id}`, text, button,
    send: async ({ reason }) => {
      await call(`queue/${encodeURIComponent(request.id)}${path}?reason=${encodeURIComponent(reason)}`, { method });
      await load();
    },
  }) }, button);
}

function row(r) {
  return h("tr", { "data-id": r.id },
    h("td", {}, r.id), h("td", { class: r.state === "dead" ? "open" : "" }, r.state), h("td", {}, `${r.method} ${r.path}`), h("td", {}, `${r.bytes} B`),
    h("td", {}, clock(r.accepted)), h("td", {}, String(r.attempts)), h("td", {}, [r.cause, r.last_error].filter(Boolean).join(": ")),
    h("td", {}, verb(r, "Retry", "Retry", "It is tried now; a dead one begins again.", "/retry", "POST"), " ",
      verb(r, "Drop", "Drop", "It is gone then, and never delivered.", "", "DELETE")));
}

function heading(name, q) {
  const oldest = q.oldest ? `, the oldest for ${span((Date.now() - new Date(q.oldest)) / 1000)}` : "";
  return h("p", { "data-queue": name }, h("strong", {}, name), `: ${q.waiting} waiting${oldest}, `, h("span", { class: q.dead ? "open" : "" }, `${q.dead} dead`),
    `; ${q.accepted} accepted, ${q.delivered} delivered, ${q.retried} retried since the start`);
}

export async function load() {
  const { queues, requests, more } = await get(`queue?limit=${shown}`);
  const used = (q) => q.waiting || q.dead || q.accepted || q.taken_over;
  const names = Object.keys(queues).filter((name) => used(queues[name])).sort();
  const columns = ["id", "state", "request", "body", "accepted", "attempts", "last error", ""];
  $("queue").replaceChildren(names.length ? "" : h("p", { class: "soft" }, "Nothing has been queued."), ...names.map((name) => heading(name, queues[name])),
    requests.length ? h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "queued requests" }, h("table", {},
      h("thead", {}, h("tr", {}, ...columns.map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, ...requests.map(row)))) : "",
    more ? h("p", { class: "soft" }, `The first ${shown} are shown.`) : "");
}
