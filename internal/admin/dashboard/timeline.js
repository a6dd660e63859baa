import { $, clock, h } from "./dom.js";
import { get } from "./api.js";

const most = 300;
let entries = []; // newest first

const words = (cause) => cause.replaceAll("_", " ");

function changed(c) {
  const failure = c.failure ? `; ${c.failure.type}${c.failure.detail ? ": " + c.failure.detail : ""}` : "";
  const where = c.instance ? ` (${c.instance})` : "";
  return [h("strong", {}, c.service), " ", h("span", { class: c.from }, c.from), " → ", h("span", { class: c.to }, c.to),
    ` by ${words(c.cause)}${c.reason ? `: “${c.reason}”` : ""}${failure}${where}`];
}

function told(name, e) {
  switch (name) {
    case "state_changed":
      return changed(e);
    case "admin_action": {
      const what = [e.service, e.request, e.state, e.duration, e.scope].filter(Boolean).join(" ");
      return [h("strong", {}, "operator"), ` at ${e.remote}: ${[words(e.action), what].filter(Boolean).join(" ")}${e.reason ? `: “${e.reason}”` : ""}${e.error ? `; not done: ${e.error}` : ""}`];
    }
    case "probing":
      return [h("strong", {}, e.service), " this instance probes for the fleet"];
    case "reloaded":
      return [h("strong", {}, "configuration"), e.error ? ` refused: ${e.error}` : ` in force (${e.hash.slice(0, 8)})${e.restart_required ? `; waits for a restart: ${e.restart_required.join(", ")}` : ""}`];
  }
  return null;
}

function draw() {
  entries.sort((a, b) => b.at - a.at);
  entries = entries.slice(0, most);
  $("timeline").replaceChildren(...(entries.length ? entries.map((e) => h("li", { "data-kind": e.kind }, h("time", { datetime: e.time }, clock(e.time)), ...e.content()))
    : [h("li", { class: "soft" }, "Nothing has changed since the proxy keeps a history.")]));
}

function put(kind, time, key, content) {
  if (entries.some((e) => e.key === key)) return;
  entries.push({ kind, time, at: new Date(time).getTime(), key, content });
}

const changeKey = (c) => `${c.service} ${c.time} ${c.from} ${c.to}`;

// load puts in what services have in their histories.
export async function load(services) {
  const histories = await Promise.all(services.map((s) => get(`circuit-breakers/${encodeURIComponent(s)}/history`)));
  for (const c of histories.flat()) put("state_changed", c.time, changeKey(c), () => changed(c));
  draw();
}

// add puts in an event.
export function add(name, e) {
  if (!told(name, e)) return;
  put(name, e.time, name === "state_changed" ? changeKey(e) : name + JSON.stringify(e), () => told(name, e));
  draw();
}
