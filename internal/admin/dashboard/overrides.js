import { h, isolated, sanitize, setText } from "./dom.js";
import { confirmAction, submitWithToken } from "./dialogs.js";
import { call, get } from "./api.js";
import { createField, createForm, durationValue } from "./forms.js";
import { createTimed } from "./timed.js";
import { now } from "./time.js";

const maxText = 200; // characters of an untrusted text on a card; the timeline shows all of it
const fixedKeys = ["prefix", "listen", "upstream", "tls"]; // of a route, which can be changed in the file only

const path = (service) => `circuit-breakers/${encodeURIComponent(service)}/overrides`;

// overridesText describes how many keys are overridden; "" if none is.
export const overridesText = (s) => (s.overrides ? `${s.overrides.keys.length === 1 ? "1 key" : `${s.overrides.keys.length} keys`} overridden` : "");

const valueText = (v) => sanitize(typeof v === "string" && v ? v : JSON.stringify(v), maxText);

// createOverrides returns the part of a service's card with the overridden keys, and a button that overrides one.
export function createOverrides(name) {
  const timed = createTimed({ kind: "overrides", label: `overridden keys of ${name}`, heading: "Overridden for a while" });
  let service, operator; // what update has got last
  let values = null; // the response of the API with the values; null: not loaded
  let version = ""; // of the overrides that values are of
  let notPersisted = {}; // why those since a time are not stored

  function draw() {
    const overrides = service.overrides && { ...service.overrides, operator, notPersisted: notPersisted.since === service.overrides.since && notPersisted.text };
    timed.update(overridesText(service), overrides ? entries(name, overrides, values) : []);
  }

  async function load(wanted) {
    try {
      const loaded = await get(path(name));
      if (wanted !== version) return; // they have changed meanwhile
      values = loaded;
      draw();
    } catch {
      version = ""; // the next update tries again
    }
  }

  return {
    ...timed,
    button: h("button", { type: "button", "data-override": name, "aria-label": `Override keys of ${name}`, onclick: () => openDialog(name, (response) => {
      notPersisted = { since: response.since, text: response.not_persisted };
    }) }, "Override"),
    // update shows the overrides of a service. hash is that of the configuration, from the address of who has set them, if known.
    update(s, hash, from) {
      service = s;
      operator = from;
      const wanted = s.overrides ? JSON.stringify([s.overrides, hash]) : "";
      if (wanted !== version) {
        version = wanted;
        values = null;
        if (wanted) load(wanted);
      }
      draw();
    },
  };
}

// entries returns the entries of the list: one for each key, and, if there are several, one about all of them. values is null if the
// values are not known yet.
function entries(service, overrides, values) {
  const keys = values?.keys || overrides.keys.map((key) => ({ key })), several = keys.length > 1;
  const about = [
    overrides.reason && h("bdi", {}, ` “${sanitize(overrides.reason, maxText)}”`), overrides.operator && h("bdi", {}, ` from ${sanitize(overrides.operator, maxText)}`),
    overrides.notPersisted && h("span", { class: "open" }, ` ${sanitize(overrides.notPersisted, maxText)}`),
  ];
  const whole = { until: overrides.until, title: `End the overrides of ${service}`, end: () => endAll(service) };
  const list = keys.map((k) => ({
    id: JSON.stringify([k, several || [overrides, values !== null]]), attributes: { "data-key": k.key },
    nodes: [h("strong", {}, k.key), ...("value" in k ? [" = ", h("bdi", {}, valueText(k.value)), h("span", { class: "muted" }, ", otherwise ", k.file_value === null ? "not set" : h("bdi", {}, valueText(k.file_value)))] : []), ...(several ? [] : about)],
    button: "End", ...(several ? { title: `End the override of ${k.key} of ${service}`, end: values?.set[k.key] !== undefined && (() => endOne(service, k.key)) } : whole),
  }));
  return several ? [...list, { id: JSON.stringify(overrides), attributes: {}, nodes: ["All", ...about], button: "End all", ...whole }] : list;
}

function endAll(service) {
  return confirmAction({
    title: `End the overrides of ${service}`, text: "The values of file and environment are in force again at once.", button: "End overrides",
    send: ({ reason }) => call(`${path(service)}?reason=${encodeURIComponent(reason)}`, { method: "DELETE" }),
  });
}

// endOne ends the override of one of several keys: it sets the others for the time that is left.
function endOne(service, key) {
  return confirmAction({
    title: `End the override of ${key} of ${service}`, text: `The value of file and environment is in force again at once. The other keys stay overridden as long as before.`, button: "End override",
    send: async ({ reason }) => {
      const { set, until, reason: previous } = await get(path(service));
      delete set[key];
      const left = (new Date(until) - now()) / 1000;
      if (!Object.keys(set).length || left <= 0) return call(`${path(service)}?reason=${encodeURIComponent(reason)}`, { method: "DELETE" });
      return call(path(service), { method: "PUT", body: { set, duration: left, reason: reason || previous } });
    },
  });
}

let dialog; // made at the first use
let route; // the keys of the service's route in force
const hint = h("p", { class: "muted" }), others = h("p", { class: "muted" }), keyList = h("datalist", { id: "override-keys" });

// openDialog asks for a key and its value, and overrides it. done is called with the response.
async function openDialog(service, done) {
  dialog ||= createDialog();
  dialog.form.reset();
  dialog.setTitle(`Override a key of ${service}`);
  let current = { set: {}, reason: "" };
  route = {};
  const fill = async () => {
    const [config, overrides] = await Promise.all([get("config"), get(path(service))]);
    [route, current] = [flatten(config.routes[service] || {}), overrides];
    keyList.replaceChildren(...Object.keys(route).map((value) => h("option", { value })));
    dialog.form.elements.reason.value ||= current.reason;
    showOthers();
  };
  const showOthers = () => {
    const key = dialog.form.elements.key.value.trim(), kept = Object.keys(current.set).filter((k) => k !== key);
    setText(hint, key in route ? `in force: ${valueText(route[key])}` : "");
    setText(others, kept.length ? `${sanitize(kept.join(", "), maxText)} ${kept.length === 1 ? "stays" : "stay"} overridden, and all end after this duration.` : "");
  };
  dialog.form.oninput = showOthers;
  showOthers();
  fill().catch(() => {}); // the key can be typed, and sending tells what is wrong
  return submitWithToken(dialog.element, async ({ key, value, duration, reason }) => {
    const { set } = await get(path(service));
    const response = await call(path(service), { method: "PUT", body: { set: { ...set, [key.trim()]: parseValue(value) }, duration: durationValue(duration), reason } });
    done(await response.json());
  }, (faults) => dialog.showFaults(faults.map((f) => atField(f, dialog.form.elements.key.value.trim()))));
}

function createDialog() {
  const field = (name, label, attributes, describedBy) => createField(label, h("input", { id: "override-" + name, name, autocomplete: "off", spellcheck: "false", ...attributes }), describedBy);
  return createForm({
    id: "override-dialog", text: "The value takes precedence over file and environment at once, until the time is up, also after a restart. It is checked as the file is.", button: "Override",
    fields: [
      field("key", "Key of the route", { list: keyList.id, placeholder: "breaker.fail_max", required: true }, hint), keyList,
      field("value", "Value as in the file", { placeholder: "10, 5s, or [5xx, 429]" }),
      field("duration", "Duration, at most 24h", { value: "30m", required: true }, others),
      field("reason", "Reason", { maxlength: 1000, placeholder: "shown to others, and recorded in the log" }),
    ],
  });
}

// flatten returns the values of a route by the path of their key, without the keys that cannot be overridden.
function flatten(object, prefix = "") {
  return Object.fromEntries(Object.entries(object).flatMap(([name, value]) => {
    if (!prefix && fixedKeys.includes(name)) return [];
    const nested = value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0;
    return nested ? Object.entries(flatten(value, `${prefix}${name}.`)) : [[prefix + name, value]];
  }));
}

// parseValue returns the JSON value of a text, as the command line does: JSON, a list of such values in brackets, or else a string.
function parseValue(text) {
  const trimmed = text.trim();
  try {
    return JSON.parse(trimmed);
  } catch {
    const items = /^\[(.*)\]$/.exec(trimmed);
    return items ? items[1].split(",").map(parseValue) : trimmed;
  }
}

// atField returns a fault about a key of the route as one of the field that has its name or its value.
function atField(fault, key) {
  if (key && fault.startsWith(key + ".")) return `value: ${fault}`;
  const text = fault.startsWith(`${key}: `) || (!key && fault.startsWith('"": ')) ? fault.slice((key || '""').length + 2) : null;
  if (text === null) return fault;
  return `${/^(unknown key|can be changed in the file only|is set twice)/.test(text) ? "key" : "value"}: ${text}`;
}

// describeChange returns the nodes that describe an event about overrides.
export function describeChange(e) {
  const reason = e.cause === "set" ? e.overrides.reason : e.reason, set = Object.entries(e.overrides.set).map(([key, value]) => `${key} = ${valueText(value)}`).join(", ");
  return [{ set: "overridden for a while: ", dropped: "overrides dropped, as they do not fit the new configuration: " }[e.cause] || `overrides ${e.cause}: `, isolated(set),
    ...(reason ? [", reason “", isolated(reason), "”"] : []), ...(e.error ? ["; ", isolated(e.error)] : [])];
}
