import { $, h, keepFocus, setChildren, setText } from "./dom.js";
import * as cards from "./cards.js";
import { ejectedText } from "./endpoints.js";
import { openKeysText } from "./keys.js";
import { findOperator, findOrigin } from "./timeline.js";

const maxExpanded = 12; // services; if there are more, those that need no attention are collapsed
const maxLinks = 12; // links to services that need attention
const maxNames = 5; // service names in a sentence

const all = new Map(); // card and link by service name
let health, config = null; // config is null until it is loaded

// severity orders services by how much attention they need, most first.
const noAttention = 3;
function severity(s) {
  const state = s.mode === "off" ? "closed" : s.circuit_breaker_state;
  return { open: 0, "half-open": 1 }[state] ?? (s.forced || s.faults.length || s.overrides || s.adaptive?.demoted || cards.rejectsSome(s) || ejectedText(s) || openKeysText(s) ? 2 : noAttention);
}

// show shows the services by severity, then by priority.
export function show(next) {
  health = next;
  const card = document.activeElement.closest(".card"); // found now, because the element may be removed
  keepFocus(() => {
    setMany(health.total_services > maxExpanded);
    draw();
  }, () => focusAlternatives(card));
}

// setMany collapses the services that need no attention, and shows the filter, if there are many services.
let many;
function setMany(next) {
  if (next === many) return;
  many = next;
  $("services-section").classList.toggle("many", many);
  $("filter").hidden = !many;
  $("normal").open = false;
}

export function setConfig(next) {
  config = next;
  if (health) show(health);
}

// focusAlternatives returns the elements that get the focus if its element, which was in a card or not, is removed.
function focusAlternatives(card) {
  return card ? [...card.querySelectorAll("button"), $("normal").querySelector("summary"), $("services-title")] : [$("services-title")];
}

const bySeverity = (a, b) => severity(a) - severity(b) || a.configuration.priority - b.configuration.priority || a.service_name.localeCompare(b.service_name);
const needAttention = () => Object.values(health.services).filter((s) => severity(s) < noAttention).sort(bySeverity);

function draw() {
  const services = Object.values(health.services).sort(bySeverity);
  for (const name of all.keys()) if (!Object.hasOwn(health.services, name)) all.delete(name);
  for (const s of services) {
    if (!all.has(s.service_name)) all.set(s.service_name, create(s.service_name));
    const card = all.get(s.service_name);
    cards.updateCard(card, s, { shared: health.redis.sharing, config, hash: health.config.hash, origin: s.cause === "fleet" ? findOrigin(s) : null, operator: findOperator(s) });
    card.link.firstChild.className = `badge ${s.circuit_breaker_state}`;
    setText(card.link.firstChild, `${s.service_name} ${cards.stateText(s)}`);
  }
  const sorted = services.map((s) => all.get(s.service_name)), attention = sorted.slice(0, needAttention().length), normal = many ? sorted.slice(attention.length) : [];
  const links = attention.slice(0, maxLinks).map((c) => c.link);
  if (attention.length > maxLinks) links.push(h("li", {}, `and ${attention.length - maxLinks} more`));
  setChildren($("attention"), links);
  $("attention-nav").hidden = !attention.length && $("dead").hidden;
  setChildren($("services"), (many ? attention : sorted).map((c) => c.element));
  setChildren($("normal-services"), normal.map((c) => c.element));
  $("normal").hidden = !normal.length;
  setText($("normal-title"), attention.length ? `The other ${count(normal.length)}` : `All ${count(normal.length)}`);
  filter();
}

function create(name) {
  return Object.assign(cards.createCard(name), { link: h("li", {}, h("a", { href: "#card-" + name, onclick: clearFilter })) });
}

const count = (n) => `${n} ${n === 1 ? "service" : "services"}`;

// filter hides the cards that do not contain all words of the filter in name, state text or mode.
function filter() {
  const words = $("filter").hidden ? [] : $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let matches = 0;
  for (const { element, service: s } of all.values()) {
    const text = `${s.service_name} ${cards.stateText(s)} ${s.mode}`.toLowerCase();
    element.hidden = !words.every((word) => text.includes(word));
    matches += !element.hidden;
  }
  setText($("filter-count"), words.length ? `${matches} of ${count(all.size)}` : "");
}

function clearFilter() {
  $("filter").value = "";
  filter();
}

$("filter").addEventListener("input", () => {
  $("normal").open = $("filter").value !== "";
  filter();
});

export function updateTimes() {
  for (const card of all.values()) cards.updateTimes(card);
}

// summary returns a sentence with the number of services that need attention and the effect on clients.
export function summary() {
  const attention = needAttention(), total = health.total_services;
  if (!attention.length) return `All ${count(total)} are served by their upstreams.`;
  const countOf = (state, f) => (attention.some(f) ? `${attention.filter(f).length} ${state}` : null);
  const counts = [countOf("open", (s) => severity(s) === 0), countOf("half-open", (s) => severity(s) === 1), countOf("forced", (s) => s.forced), countOf("throttled", (s) => s.rejection_ratio > 0), countOf("recovering", (s) => s.admitted_ratio < 1), countOf("with injected faults", (s) => s.faults.length), countOf("with overridden keys", (s) => s.overrides), countOf("demoted", (s) => s.adaptive?.demoted), countOf("with ejected endpoints", ejectedText), countOf("with keys not closed", openKeysText)];
  return `${counts.filter(Boolean).join(", ")} of ${count(total)}${effect(attention.filter(cards.rejectsRequests))}.`;
}

// effect describes what the clients of services that reject requests get.
function effect(rejecting) {
  const errors = rejecting.filter((s) => !cards.fallbackStrategies(s, config));
  if (!rejecting.length) return "; all are served by their upstreams";
  const clients = `${rejecting.length === 1 ? "its" : "their"} clients get`;
  if (!errors.length) return `; ${clients} fallbacks`;
  return errors.length === rejecting.length ? `; ${clients} errors` : `; clients of ${names(errors)} get errors, the other clients fallbacks`;
}

function names(services) {
  const listed = services.slice(0, maxNames).map((s) => s.service_name).join(", ");
  return services.length > maxNames ? `${listed} and ${services.length - maxNames} more` : listed;
}

// announcement returns the text for screen readers about the services that need attention; "" if there are none.
export function announcement() {
  const attention = needAttention();
  return attention.length ? ` Needs attention: ${names(attention.map((s) => ({ service_name: `${s.service_name} ${cards.stateText(s)}` })))}.` : "";
}
