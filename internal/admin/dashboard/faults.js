import { h, isolated, sanitize } from "./dom.js";
import { confirmAction, submitWithToken } from "./dialogs.js";
import { call } from "./api.js";
import { createField, createForm, durationValue } from "./forms.js";
import { createTimed } from "./timed.js";

const maxText = 200; // characters of an untrusted text on a card; the timeline shows all of it

// kinds describes what a fault does to a request. field is the setting that only this kind has.
const kinds = {
  abort: { text: "abort: a status, without the upstream", field: "status" },
  delay: { text: "delay: a wait before the request", field: "delay" },
  reset: { text: "reset: a broken connection" },
  cut: { text: "cut: a response that ends early" },
};

const path = (service, id = "") => `circuit-breakers/${encodeURIComponent(service)}/faults${id && "/" + encodeURIComponent(id)}`;

// effectText describes a fault without its match and reason, such as "abort 503, 20 % of the requests".
export function effectText(f) {
  const what = [f.kind, f.status || f.delay].filter(Boolean).join(" ");
  return `${what}, ${f.share < 1 ? `${Number((100 * f.share).toPrecision(3))} % of the` : "all"} requests`;
}

// matchText describes the requests that a fault hits; "" if it hits all.
const matchText = (f) => (f.match ? `with ${f.match.header}${f.match.value ? ": " + f.match.value : ""}` : "");

// describe returns the nodes that describe a fault.
export function describe(f) {
  const match = matchText(f);
  return [effectText(f), ...(match ? [" ", isolated(match)] : []), ...(f.reason ? [", reason “", isolated(f.reason), "”"] : [])];
}

// faultsText describes how many faults are in force; "" if there are none.
export const faultsText = (s) => (s.faults.length ? `${s.faults.length === 1 ? "fault" : `${s.faults.length} faults`} injected` : "");

// createFaults returns the part of a service's card with the faults in force, and a button that injects one.
export function createFaults(name) {
  const timed = createTimed({ kind: "faults", label: `faults injected into ${name}`, heading: "Injected on purpose" });
  return {
    ...timed,
    button: h("button", { type: "button", "data-inject": name, "aria-label": `Inject fault into ${name}`, onclick: () => openDialog(name) }, "Inject fault"),
    update: (s) => timed.update(faultsText(s), s.faults.map((f) => entry(name, f))), // shows the faults of a service
  };
}

// entry returns the entry of one fault, which never changes, but for the time that is left.
function entry(service, f) {
  const title = `End fault ${f.id} of ${service}`, match = matchText(f);
  return {
    id: f.id, attributes: { "data-fault": f.id }, until: f.until, title, button: "End",
    nodes: [h("strong", {}, effectText(f)), match && h("bdi", {}, " " + sanitize(match, maxText)), f.reason && h("bdi", {}, ` “${sanitize(f.reason, maxText)}”`)],
    end: () => confirmAction({
      title, text: `The fault “${effectText(f)}” ends. Requests that it has already hit are not affected.`, button: "End fault",
      send: ({ reason }) => call(`${path(service, f.id)}?reason=${encodeURIComponent(reason)}`, { method: "DELETE" }),
    }),
  };
}

let dialog; // made at the first use

// openDialog asks for the settings of a fault and injects it.
function openDialog(service) {
  dialog ||= createDialog();
  dialog.form.reset();
  showFields(dialog.form);
  dialog.setTitle(`Inject a fault into ${service}`);
  return submitWithToken(dialog.element, (fields) => call(path(service), { method: "POST", body: request(fields) }),
    (faults) => dialog.showFaults(faults.map((f) => f.replace(/^match\./, ""))));
}

function createDialog() {
  const field = (name, label, attributes) => createField(label, h("input", { id: "fault-" + name, name, autocomplete: "off", ...attributes }));
  const kind = h("select", { id: "fault-kind", name: "kind", onchange: (e) => showFields(e.target.form) }, ...Object.entries(kinds).map(([value, { text }]) => h("option", { value }, text)));
  return createForm({
    id: "fault-dialog", text: "Requests to the upstream fail or wait on purpose. Breaker, fallback, metrics and alerts take it for a real failure, and clients are affected.", button: "Inject fault",
    fields: [
      createField("Kind", kind),
      field("status", "Status of the response", { type: "number", min: 200, max: 599, value: 503, required: true }),
      field("delay", "Delay, at most 10m", { placeholder: "2s", required: true }),
      field("share", "Share of the requests in percent", { type: "number", min: 0.001, max: 100, step: "any", value: 10, required: true }),
      field("duration", "Duration, at most 1h", { value: "5m", required: true }),
      field("header", "Only requests with this header field", { placeholder: "X-Test; if empty, all requests" }),
      field("value", "and with this value of it", { placeholder: "if empty, any value" }),
      field("reason", "Reason", { maxlength: 1000, placeholder: "shown to others, and recorded in the log" }),
    ],
  });
}

// showFields shows the settings that the kind of the fault has.
function showFields(form) {
  for (const { field } of Object.values(kinds).filter((k) => k.field)) {
    const input = form.elements[field];
    input.disabled = kinds[form.elements.kind.value].field !== field; // not checked and not sent
    input.parentElement.hidden = input.disabled;
  }
}

// request returns the body of the request that injects a fault.
function request({ kind, status, delay, share, duration, header, value, reason }) {
  const body = { kind, share: Number(share) / 100, duration: durationValue(duration), reason };
  if (status !== undefined) body.status = Number(status);
  if (delay !== undefined) body.delay = durationValue(delay);
  if (header.trim() || value) body.match = { header: header.trim(), value };
  return body;
}
