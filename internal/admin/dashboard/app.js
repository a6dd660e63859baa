import { $, sanitize, setText, throttle } from "./dom.js";
import { ApiError, call, get, streamEvents, token } from "./api.js";
import { askToken, confirmAction, updateUnlockButton } from "./dialogs.js";
import { formatTime, now, skewText, syncClock, timeZone } from "./time.js";
import * as charts from "./charts.js";
import * as queue from "./queue.js";
import * as services from "./services.js";
import * as timeline from "./timeline.js";

const pollInterval = 2000; // ms; counters change without an event
const announceInterval = 3000; // ms between two announcements to screen readers
const minFetchInterval = 300; // ms between two requests for the same resource, however many events arrive

let sharing = false; // whether instances share their states

function showHealth(health) {
  syncClock(health.timestamp);
  services.show(health);
  setText($("status"), health.status);
  $("status").className = `badge ${health.status}`;
  document.title = `${health.status === "healthy" ? "" : "⚠ "}cbproxy: ${health.status}`;
  const r = health.redis;
  sharing = r.sharing;
  const redis = r.configured && `Redis ${r.up ? "up" : `down${r.last_error ? ": " + sanitize(r.last_error, 300) : ""}`}${r.sharing ? `, shared (quorum ${r.quorum})` : ""}`;
  setText($("instance"), [sanitize(health.instance), redis, skewText()].filter(Boolean).join(", "));
  const c = health.config;
  $("config-error").hidden = !c.last_error;
  setText($("config-faults"), c.last_error || "");
  setText($("config-version"), `${c.hash.slice(0, 12)}, since ${formatTime(c.loaded_at)}${c.restart_required?.length ? `; restart required: ${c.restart_required.join(", ")}` : ""}.`);
  const dropped = c.overrides_dropped || [];
  $("overrides-dropped").hidden = !dropped.length;
  setText($("overrides-dropped"), dropped.map((d) => `The overrides of ${d.service} were dropped at ${formatTime(d.time)}, as they do not fit the configuration: ${sanitize(d.error, 300)}`).join(" "));
  showSummary();
}

function showSummary() {
  setText($("summary"), services.summary());
  announce();
}

// announce updates the text for screen readers, less often than the visible text.
const announce = throttle(async () => setText($("announcement"), services.summary() + services.announcement()), 500, announceInterval);

// connections holds the state of the event stream and of the requests for the health. since is when the connection was
// lost, 0 if it was not; retryAt is the time of the next attempt, and reason the error response if there was one.
const connections = { stream: { since: 0 }, health: { since: 0 } };

function showConnection() {
  const lost = Object.values(connections).filter((c) => c.since), { retryAt, reason } = lost[0] || {};
  document.body.classList.toggle("disconnected", lost.length > 0);
  $("connection").classList.toggle("disconnected", lost.length > 0);
  setText($("connection-state"), lost.length ? `Connection lost since ${formatTime(Math.min(...lost.map((c) => c.since)))}, data is outdated. ${reason}` : "live");
  setText($("connection-retry"), lost.length ? ` Retrying ${retryAt > now() ? `in ${Math.ceil((retryAt - now()) / 1000)} s` : "now"}.` : "");
}

function setConnection(name, connected, error, backoff) {
  const rejected = error instanceof ApiError, { since } = connections[name];
  connections[name] = connected ? { since: 0 } : { since: since || now(), retryAt: now() + backoff, reason: rejected ? error.message : "" };
  if (rejected && error.status === 401) requestToken();
  showConnection();
}

// requestToken asks for the token that reads need, unless the user has cancelled that dialog before.
let tokenRequested = false; // the dialog is open or was cancelled
async function requestToken() {
  if (tokenRequested) return;
  tokenRequested = true;
  token.set("");
  tokenRequested = !(await askToken());
}

async function showConfig() {
  const config = await get("config");
  services.setConfig(config);
  showSummary();
  setText($("config"), JSON.stringify(config, null, 2));
}

const refresh = throttle(async () => {
  try {
    showHealth(await get("circuit-breakers/health"));
    setConnection("health", true);
  } catch (e) {
    setConnection("health", false, e, pollInterval);
    throw e;
  }
}, 50, minFetchInterval);
const refreshQueue = throttle(queue.load, 200, minFetchInterval);
const refreshConfig = throttle(showConfig, 0, minFetchInterval);
const refreshTimeline = throttle(async () => {
  const names = [...outdatedHistories];
  outdatedHistories.clear();
  await timeline.loadHistories(names);
  refresh(); // cards show the instance that detected a failure
}, minFetchInterval, 4 * minFetchInterval);

const outdatedHistories = new Set(); // services whose histories may contain new changes of other instances

function handleEvent(name, data) {
  if (name === "snapshot") {
    showHealth(data);
    for (const service of Object.keys(data.services)) outdatedHistories.add(service);
    for (const fetch of [refresh, refreshConfig, refreshTimeline, refreshQueue]) fetch();
    return;
  }
  timeline.addEvent(name, data);
  if (name === "state_changed" && sharing) {
    outdatedHistories.add(data.service);
    refreshTimeline();
  }
  if (name === "queue_changed") refreshQueue();
  else refresh();
  if (name === "reloaded" || name === "overrides_changed") refreshConfig();
}

$("unlock").addEventListener("click", async () => {
  if (token.get()) {
    token.set("");
    updateUnlockButton();
  } else tokenRequested = !(await askToken());
});
$("reload").addEventListener("click", () => confirmAction({
  title: "Reload the configuration", text: "The configuration file is reloaded. If it is invalid, the current configuration stays in force.", button: "Reload",
  send: ({ reason }) => call(`config/reload?reason=${encodeURIComponent(reason)}`, { method: "POST" }),
}));

updateUnlockButton();
setText($("time-zone"), `time zone: ${timeZone}`);
charts.start();
streamEvents(handleEvent, (...state) => setConnection("stream", ...state));
setInterval(() => {
  services.updateTimes();
  showConnection();
}, 500);
const poll = () => document.hidden || connections.stream.since || refresh();
setInterval(poll, pollInterval);
document.addEventListener("visibilitychange", poll);
