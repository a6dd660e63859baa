import { h, isolated, sanitize, setChildren, setText } from "./dom.js";
import { formatDuration, formatTime, now } from "./time.js";

const maxText = 200; // characters of an untrusted text on a card; the timeline shows all of it
const maxListed = 5; // endpoints in an entry of the timeline
const maxVisible = 6; // endpoints; if there are more, the list scrolls

const isEjected = (e) => e.state === "ejected";
const countEjected = (s) => s.endpoints.filter(isEjected).length;

// ejectedText says how many endpoints of a service are ejected; "" if none is.
export const ejectedText = (s) => (countEjected(s) ? `${countEjected(s)} of ${s.endpoints.length} endpoints ejected` : "");

// createEndpoints returns the part of a service's card with its endpoints. It is empty if there is only one.
export function createEndpoints(name) {
  const badge = h("span", { class: "badge half-open", hidden: true });
  const head = h("thead", {}, h("tr", {}, ...["state", "in flight", "failures", "ejections"].map((title) => h("th", { scope: "col" }, title))));
  const table = h("table", { "aria-label": `endpoints of ${name}, their states and counts` }, head), list = h("div", { class: "endpoint-list", role: "group", "aria-label": `list of the endpoints of ${name}` }, table);
  const summary = h("summary", { "aria-label": `Endpoints of ${name}` }), details = h("details", {}, summary, list);
  const missing = h("p", { hidden: true }, "no endpoints: DNS has not answered yet");
  const element = h("section", { class: "endpoints", "aria-label": `endpoints of ${name}`, hidden: true }, missing, details);
  const rows = [];
  let ejectedBefore = 0;

  // update shows the endpoints of a service, those that are ejected first. The list opens when the first one is ejected.
  function update(s) {
    const count = s.endpoints.length, ejected = countEjected(s);
    element.hidden = count === 1;
    missing.hidden = count > 0;
    details.hidden = !count;
    badge.hidden = !ejected;
    setText(badge, ejectedText(s));
    setText(summary, `endpoints: ${count - ejected} of ${count} in`);
    summary.ariaLabel = `Endpoints of ${name}: ${count - ejected} of ${count} in`;
    if (ejected && !ejectedBefore) details.open = true;
    ejectedBefore = ejected;
    while (rows.length < count) rows.push(createRow());
    rows.length = count;
    [...s.endpoints].sort((a, b) => isEjected(b) - isEjected(a)).forEach((e, i) => rows[i].update(e));
    setChildren(table, [head, ...rows.map((row) => row.element)]);
    list.classList.toggle("scrolls", count > maxVisible);
    if (count > maxVisible) list.tabIndex = 0;
    else list.removeAttribute("tabindex");
  }

  // updateTimes updates what depends on the current time only.
  const updateTimes = () => rows.forEach((row) => row.updateTimes());
  return { badge, element, update, updateTimes };
}

// createRow returns the rows of the table about one endpoint: its URL, its state and counts, and, if it is ejected, its last failure.
function createRow() {
  const url = h("bdi"), state = h("td"), counts = [h("td"), h("td"), h("td")], failure = h("bdi"), failed = h("tr", {}, h("td", { colspan: 4, class: "failure" }, failure));
  let endpoint;
  const row = {
    element: h("tbody", {}, h("tr", {}, h("th", { scope: "rowgroup", colspan: 4 }, url)), h("tr", {}, state, ...counts), failed),
    update(e) {
      endpoint = e;
      setText(url, sanitize(e.url, maxText));
      state.className = isEjected(e) ? "open" : "closed";
      [e.in_flight, e.fail_counter, e.ejections].forEach((n, i) => setText(counts[i], `${n}`));
      failed.hidden = !isEjected(e) || !e.last_error;
      setText(failure, failed.hidden ? "" : failureText(e.last_error, maxText));
      row.updateTimes();
    },
    updateTimes: () => setText(state, stateText(endpoint)),
  };
  return row;
}

function stateText(e) {
  if (!isEjected(e)) return "in";
  const left = new Date(e.until) - now();
  return left > 0 ? `ejected, ${formatDuration(left / 1000)} left` : "ejected, to be tried";
}

const failureText = (f, max) => `${f.type}${f.detail ? ", " + sanitize(f.detail, max) : ""}`;

// describeEndpoint returns the nodes that describe an event about one endpoint.
export function describeEndpoint(e) {
  const cause = e.cause.replaceAll("_", " ");
  if (!isEjected(e)) return ["endpoint ", isolated(e.endpoint), " gets ", h("span", { class: "closed" }, "requests again"), `: ${cause}`];
  return ["endpoint ", isolated(e.endpoint), " ", h("span", { class: "open" }, "ejected"), ` until ${formatTime(e.until)}: ${cause}`, ...(e.failure ? ["; ", h("bdi", {}, failureText(e.failure))] : [])];
}

// describeEndpoints returns the nodes that describe an event about the endpoints that DNS has returned.
export function describeEndpoints(e) {
  if (e.error) return ["endpoints cannot be looked up in DNS: ", isolated(e.error)];
  const changes = [["added ", e.added], ["removed ", e.removed]].filter(([, urls]) => urls?.length);
  if (!changes.length) return ["endpoints are looked up in DNS again"];
  return ["endpoints changed in DNS: ", ...changes.flatMap(([what, urls], i) => [i ? "; " : "", what, ...listNodes(urls)])];
}

function listNodes(urls) {
  const nodes = urls.slice(0, maxListed).flatMap((url, i) => [i ? ", " : "", isolated(url)]);
  return urls.length > maxListed ? [...nodes, ` and ${urls.length - maxListed} more`] : nodes;
}
