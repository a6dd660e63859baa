import { h, sanitize, setText } from "./dom.js";
import { submitWithToken } from "./dialogs.js";
import { call, get } from "./api.js";
import { createField, createForm, durationValue } from "./forms.js";

const maxText = 200; // characters of a value
const fixedKeys = ["prefix", "listen", "upstream", "tls"]; // of a route, which can be changed in the file only

// path returns the path of the overrides of a service.
export const path = (service) => `circuit-breakers/${encodeURIComponent(service)}/overrides`;

// valueText returns the value of a key as text.
export const valueText = (v) => sanitize(typeof v === "string" && v ? v : JSON.stringify(v), maxText);

let dialog; // made at the first use
let route; // the keys of the service's route in force
const hint = h("p", { class: "muted" }), others = h("p", { class: "muted" }), keyList = h("datalist", { id: "override-keys" });

// openOverrideDialog asks for a key of a service's route and its value, and overrides it. done is called with the response.
export async function openOverrideDialog(service, done) {
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
