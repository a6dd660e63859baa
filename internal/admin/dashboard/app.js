import { $, plain, set, soon } from "./dom.js";
import { Refused, call, follow, get, token } from "./api.js";
import { act, askToken, showToken } from "./dialogs.js";
import { adjust, clock, now, skew } from "./time.js";
import * as charts from "./charts.js";
import * as queue from "./queue.js";
import * as services from "./services.js";
import * as timeline from "./timeline.js";

const pollEvery = 2000; // ms: counters change without an event
const sayEvery = 4000; // ms between two things said to who can't see the page
const rest = 300; // ms between two fetches of the same, at least, however much happens

let sharing = false;

function showHealth(health) {
  adjust(health.timestamp);
  services.show(health);
  set($("status"), health.status);
  $("status").className = `badge ${health.status}`;
  document.title = `${health.status === "healthy" ? "" : "⚠ "}cbproxy: ${health.status}`;
  const r = health.redis;
  sharing = r.sharing;
  const redis = r.configured && `Redis ${r.up ? "up" : `down${r.last_error ? ": " + plain(r.last_error, 300) : ""}`}${r.sharing ? `, shared (quorum ${r.quorum})` : ""}`;
  set($("facts"), [plain(health.instance), redis, skew()].filter(Boolean).join(", "));
  const c = health.config;
  $("fault").hidden = !c.last_error;
  set($("fault-lines"), c.last_error || "");
  set($("config-facts"), `${c.hash.slice(0, 12)}, since ${clock(c.loaded_at)}${c.restart_required?.length ? `; waits for a restart: ${c.restart_required.join(", ")}` : ""}.`);
  sum();
}

// sum tells in a sentence how things are. It is said aloud, too, but not each step of a quick change.
function sum() {
  set($("summary"), services.summary());
  say();
}

const say = soon(async () => set($("said"), services.summary() + services.names()), 500, sayEvery);

// lost says for how long nothing has been heard, as what is shown is from before.
let lostSince = 0, retryAt = 0, why = "";
function showConnection() {
  const lost = lostSince > 0;
  document.body.classList.toggle("lost", lost);
  $("connection").classList.toggle("lost", lost);
  set($("connected"), lost ? `Connection lost since ${clock(lostSince)}: what you see is old. ${why}` : "live");
  set($("retry"), lost ? ` Next try ${retryAt > now() ? `in ${Math.ceil((retryAt - now()) / 1000)} s` : "now"}.` : "");
}

let asking = false;
function connection(ok, error, wait) {
  if (ok) lostSince = 0;
  else {
    lostSince ||= now();
    retryAt = now() + wait;
    why = error instanceof Refused ? error.message : "";
    if (error instanceof Refused && error.status === 401 && !asking) {
      asking = true;
      token.set("");
      askToken().finally(() => (asking = false));
    }
  }
  showConnection();
}

async function showConfig() {
  const config = await get("config");
  services.configure(config);
  sum();
  set($("config"), JSON.stringify(config, null, 2));
}

const refresh = soon(async () => showHealth(await get("circuit-breakers/health")), 50, rest);
const refreshQueue = soon(queue.load, 200, rest);
const refreshConfig = soon(showConfig, 0, rest);
const refreshTimeline = soon(async () => {
  const names = [...unread];
  unread.clear();
  await timeline.load(names);
  refresh(); // with who found out
}, rest, 10 * rest);

const unread = new Set(); // services in whose histories there may be changes of other instances

function heard(name, data) {
  if (name === "snapshot") {
    showHealth(data);
    for (const service of Object.keys(data.services)) unread.add(service);
    for (const fetch of [refreshConfig, refreshTimeline, refreshQueue]) fetch();
    return;
  }
  timeline.add(name, data);
  if (name === "state_changed" && sharing) {
    unread.add(data.service);
    refreshTimeline();
  }
  if (name === "queue_changed") refreshQueue();
  else refresh();
  if (name === "reloaded") refreshConfig();
}

$("unlock").addEventListener("click", async () => {
  if (token.get()) {
    token.set("");
    showToken();
  } else await askToken();
});
$("reload").addEventListener("click", () => act({
  title: "Reload the configuration", text: "The file is read anew. If it has faults, the one in force stays.", button: "Reload",
  send: ({ reason }) => call(`config/reload?reason=${encodeURIComponent(reason)}`, { method: "POST" }),
}));

showToken();
charts.start();
follow(heard, connection);
setInterval(() => {
  services.tick();
  showConnection();
}, 500);
setInterval(() => document.hidden || lostSince || refresh(), pollEvery);
