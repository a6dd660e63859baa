import { $, plain, set, soon } from "./dom.js";
import { Refused, call, follow, get, token } from "./api.js";
import { act, askToken, showToken } from "./dialogs.js";
import { adjust, clock, now, skew, zone } from "./time.js";
import * as charts from "./charts.js";
import * as queue from "./queue.js";
import * as services from "./services.js";
import * as timeline from "./timeline.js";

const pollEvery = 2000; // ms: counters change without an event
const sayEvery = 3000; // ms between two things said to who can't see the page
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

// heardFrom is what is known of the event stream and of what is asked for: since when there is none of
// it, 0 if there is, when it is tried again, and why it was refused. Without either, what is shown is old.
const heardFrom = { stream: { since: 0 }, health: { since: 0 } };

function showConnection() {
  const lost = Object.values(heardFrom).filter((c) => c.since), { retryAt, why } = lost[0] || {};
  document.body.classList.toggle("lost", lost.length > 0);
  $("connection").classList.toggle("lost", lost.length > 0);
  set($("connected"), lost.length ? `Connection lost since ${clock(Math.min(...lost.map((c) => c.since)))}: what you see is old. ${why}` : "live");
  set($("retry"), lost.length ? ` Next try ${retryAt > now() ? `in ${Math.ceil((retryAt - now()) / 1000)} s` : "now"}.` : "");
}

function connection(which, ok, error, wait) {
  const refused = error instanceof Refused, { since } = heardFrom[which];
  heardFrom[which] = ok ? { since: 0 } : { since: since || now(), retryAt: now() + wait, why: refused ? error.message : "" };
  if (refused && error.status === 401) ask();
  showConnection();
}

// ask asks for the token that reads need, unless whoever is there did not want to give it.
let asked = false;
async function ask() {
  if (asked) return;
  asked = true;
  token.set("");
  asked = !(await askToken());
}

async function showConfig() {
  const config = await get("config");
  services.configure(config);
  sum();
  set($("config"), JSON.stringify(config, null, 2));
}

const refresh = soon(async () => {
  try {
    showHealth(await get("circuit-breakers/health"));
    connection("health", true);
  } catch (e) {
    connection("health", false, e, pollEvery);
    throw e;
  }
}, 50, rest);
const refreshQueue = soon(queue.load, 200, rest);
const refreshConfig = soon(showConfig, 0, rest);
const refreshTimeline = soon(async () => {
  const names = [...unread];
  unread.clear();
  await timeline.load(names);
  refresh(); // with who found out
}, rest, 4 * rest);

const unread = new Set(); // services in whose histories there may be changes of other instances

function heard(name, data) {
  if (name === "snapshot") {
    showHealth(data);
    for (const service of Object.keys(data.services)) unread.add(service);
    for (const fetch of [refresh, refreshConfig, refreshTimeline, refreshQueue]) fetch();
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
  } else asked = !(await askToken());
});
$("reload").addEventListener("click", () => act({
  title: "Reload the configuration", text: "The file is read anew. If it has faults, the one in force stays.", button: "Reload",
  send: ({ reason }) => call(`config/reload?reason=${encodeURIComponent(reason)}`, { method: "POST" }),
}));

showToken();
set($("zone"), `times are those of ${zone}`);
charts.start();
follow(heard, (...state) => connection("stream", ...state));
setInterval(() => {
  services.tick();
  showConnection();
}, 500);
const poll = () => document.hidden || heardFrom.stream.since || refresh();
setInterval(poll, pollEvery);
document.addEventListener("visibilitychange", poll);
