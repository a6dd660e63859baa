import { $, clock, set } from "./dom.js";
import { Refused, call, follow, get, token } from "./api.js";
import { act, askToken, showToken } from "./dialogs.js";
import * as cards from "./cards.js";
import * as charts from "./charts.js";
import * as queue from "./queue.js";
import * as timeline from "./timeline.js";

const pollEvery = 2000; // ms: counters change without an event

function showHealth(health) {
  cards.adjust(health.timestamp);
  set($("status"), health.status);
  $("status").className = `badge ${health.status}`;
  document.title = `${health.status === "healthy" ? "" : "⚠ "}cbproxy: ${health.status}`;
  const r = health.redis;
  const redis = r.configured ? `, Redis ${r.up ? "up" : `down${r.last_error ? ": " + r.last_error : ""}`}${r.sharing ? `, shared (quorum ${r.quorum})` : ""}` : "";
  set($("facts"), `${health.instance}${redis}`);
  set($("summary"), cards.summary(health));
  const c = health.config;
  $("fault").hidden = !c.last_error;
  set($("fault-lines"), c.last_error || "");
  set($("config-facts"), `${c.hash.slice(0, 12)}, since ${clock(c.loaded_at)}${c.restart_required?.length ? `; waits for a restart: ${c.restart_required.join(", ")}` : ""}.`);
  cards.show(health);
  cards.tick();
}

// lost says for how long nothing has been heard, as what is shown is from before.
let lostSince = 0, retryAt = 0, why = "";
function showConnection() {
  const lost = lostSince > 0;
  document.body.classList.toggle("lost", lost);
  $("connection").classList.toggle("lost", lost);
  set($("connection"), lost ? `Connection lost since ${clock(lostSince)}: what you see is old. Next try ${retryAt > Date.now() ? `in ${Math.ceil((retryAt - Date.now()) / 1000)} s` : "now"}. ${why}` : "live");
}

let asking = false;
function connection(ok, error, wait) {
  if (ok) lostSince = 0;
  else {
    lostSince ||= Date.now();
    retryAt = Date.now() + wait;
    why = error instanceof Refused ? error.message : "";
    if (error instanceof Refused && error.status === 401 && !asking) {
      asking = true;
      token.set("");
      askToken().finally(() => (asking = false));
    }
  }
  showConnection();
}

const troubled = (e) => console.debug("not fetched:", e.message); // the event stream tells that the connection is lost

async function load(health) {
  showHealth(health);
  refresh(); // with what the configuration says
  await Promise.all([timeline.load(Object.keys(health.services)), queue.load(), showConfig()]);
}

async function showConfig() {
  const config = await get("config");
  cards.configure(config);
  set($("config"), JSON.stringify(config, null, 2));
}

// soon does something once a moment later, however often it is asked to until then.
function soon(what, delay) {
  let timer;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      what().catch(troubled);
    }, delay);
  };
}

const refresh = soon(async () => showHealth(await get("circuit-breakers/health")), 50);
const refreshQueue = soon(queue.load, 200);

function heard(name, data) {
  if (name === "snapshot") {
    load(data).catch(troubled);
    return;
  }
  timeline.add(name, data);
  if (name === "queue_changed") refreshQueue();
  else refresh();
  if (name === "reloaded") showConfig().catch(troubled);
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
charts.start(troubled);
follow(heard, connection);
setInterval(() => {
  cards.tick();
  showConnection();
}, 500);
setInterval(() => document.hidden || lostSince || refresh(), pollEvery);
