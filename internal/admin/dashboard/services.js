import { $, h, keepFocus, place, set } from "./dom.js";
import * as cards from "./cards.js";
import { found } from "./timeline.js";

const few = 12; // so many services are all shown in full
const linked = 12; // services in trouble that the page's head links to
const named = 5; // services that a sentence names

const all = new Map(); // what a service's card and link are made of, by its name
let health, config = null; // the ones in force, config null until it is known

// rank orders services by their trouble; from well on they have none.
const well = 3;
function rank(s) {
  const state = s.mode === "off" ? "closed" : s.circuit_breaker_state;
  return { open: 0, "half-open": 1 }[state] ?? (s.forced ? 2 : well);
}

// show shows the services, those in trouble first and then by priority.
export function show(next) {
  health = next;
  keepFocus(() => {
    fold(health.total_services > few);
    draw();
  }, heirs);
}

// fold puts those out of sight that have no trouble, where there are many, until somebody wants to see them.
let many;
function fold(next) {
  if (next === many) return;
  many = next;
  $("services-section").classList.toggle("many", many);
  $("filter").hidden = !many;
  $("calm").open = false;
}

export function configure(next) {
  config = next;
  if (health) show(health);
}

// heirs are who gets the focus of something in a card that goes away.
function heirs(e) {
  const card = e.closest?.(".card");
  return card ? [...card.querySelectorAll("button"), $("calm").querySelector("summary"), $("services-title")] : [$("services-title")];
}

const byTrouble = (a, b) => rank(a) - rank(b) || a.configuration.priority - b.configuration.priority || a.service_name.localeCompare(b.service_name);
const inTrouble = () => Object.values(health.services).filter((s) => rank(s) < well).sort(byTrouble);

function draw() {
  const services = Object.values(health.services).sort(byTrouble);
  for (const name of all.keys()) if (!Object.hasOwn(health.services, name)) all.delete(name);
  for (const s of services) {
    if (!all.has(s.service_name)) all.set(s.service_name, make(s.service_name));
    const parts = all.get(s.service_name);
    cards.update(parts, s, { shared: health.redis.sharing, config, found: s.cause === "fleet" ? found(s) : null });
    parts.link.firstChild.className = `badge ${s.circuit_breaker_state}`;
    set(parts.link.firstChild, `${s.service_name} ${s.circuit_breaker_state}${s.forced ? ", forced" : ""}`);
  }
  const parts = services.map((s) => all.get(s.service_name)), troubled = parts.slice(0, inTrouble().length), calm = many ? parts.slice(troubled.length) : [];
  const links = troubled.slice(0, linked).map((p) => p.link);
  if (troubled.length > linked) links.push(h("li", {}, `and ${troubled.length - linked} more`));
  place($("troubled"), links);
  $("troubled-nav").hidden = !troubled.length && $("dead").hidden;
  place($("services"), (many ? troubled : parts).map((p) => p.card));
  place($("calm-services"), calm.map((p) => p.card));
  $("calm").hidden = !calm.length;
  set($("calm-title"), troubled.length ? `The other ${count(calm.length)}` : `All ${count(calm.length)}`);
  filter();
}

function make(name) {
  return Object.assign(cards.make(name), { link: h("li", {}, h("a", { href: "#card-" + name, onclick: clear })) });
}

const count = (n) => `${n} ${n === 1 ? "service" : "services"}`;

// filter hides what has not all that is looked for in its name, state, mode or hold.
function filter() {
  const wanted = $("filter").hidden ? [] : $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  for (const { card, service: s } of all.values()) {
    const text = `${s.service_name} ${s.circuit_breaker_state} ${s.mode} ${s.forced ? "forced" : ""}`.toLowerCase();
    card.hidden = !wanted.every((word) => text.includes(word));
    left += !card.hidden;
  }
  set($("filtered"), wanted.length ? `${left} of ${count(all.size)}` : "");
}

function clear() {
  $("filter").value = "";
  filter();
}

$("filter").addEventListener("input", () => {
  $("calm").open = $("filter").value !== "";
  filter();
});

export function tick() {
  for (const parts of all.values()) cards.tick(parts);
}

// summary says in a sentence what is broken, and what that means for callers.
export function summary() {
  const troubled = inTrouble(), total = health.total_services;
  if (!troubled.length) return `All ${count(total)} answer through their upstreams.`;
  const tell = (word, f) => (troubled.some(f) ? `${troubled.filter(f).length} ${word}` : null);
  const counts = [tell("open", (s) => rank(s) === 0), tell("half-open", (s) => rank(s) === 1), tell("forced", (s) => s.forced)];
  return `${counts.filter(Boolean).join(", ")} of ${count(total)}${consequence(troubled.filter(cards.blocked))}.`;
}

function consequence(blocked) {
  const errors = blocked.filter((s) => !cards.answers(s, config));
  if (!blocked.length) return "; all answer through their upstreams";
  const callers = `${blocked.length === 1 ? "its" : "their"} callers get`;
  if (!errors.length) return `; ${callers} fallbacks`;
  return errors.length === blocked.length ? `; ${callers} errors` : `; callers of ${list(errors)} get errors, those of the others fallbacks`;
}

function list(services) {
  const names = services.slice(0, named).map((s) => s.service_name).join(", ");
  return services.length > named ? `${names} and ${services.length - named} more` : names;
}

// names is what to say of those in trouble to who does not see them.
export function names() {
  const troubled = inTrouble();
  return troubled.length ? ` In trouble: ${list(troubled.map((s) => ({ service_name: `${s.service_name} ${s.circuit_breaker_state}` })))}.` : "";
}
