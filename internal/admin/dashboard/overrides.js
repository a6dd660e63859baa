import { h, isolated, sanitize } from "./dom.js";
import { confirmAction } from "./dialogs.js";
import { call, get } from "./api.js";
import { openOverrideDialog, path, valueText } from "./override_dialog.js";
import { createTimed } from "./timed.js";
import { now } from "./time.js";

const maxText = 200; // characters of an untrusted text on a card; the timeline shows all of it

// overridesText describes how many keys are overridden; "" if none is.
export const overridesText = (s) => (s.overrides ? `${s.overrides.keys.length === 1 ? "1 key" : `${s.overrides.keys.length} keys`} overridden` : "");

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
    button: h("button", { type: "button", "data-override": name, "aria-label": `Override keys of ${name}`, onclick: () => openOverrideDialog(name, (response) => {
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
    nodes: [h("strong", {}, sanitize(k.key, maxText)), ...("value" in k ? [" = ", h("bdi", {}, valueText(k.value)), h("span", { class: "muted" }, ", otherwise ", k.file_value === null ? "not set" : h("bdi", {}, valueText(k.file_value)))] : []), ...(several ? [] : about)],
    button: "End", ...(several ? { title: endTitle(service, k.key), end: values?.set[k.key] !== undefined && (() => endOne(service, k.key)) } : whole),
  }));
  return several ? [...list, { id: JSON.stringify(overrides), attributes: {}, nodes: ["All", ...about], button: "End all", ...whole }] : list;
}

const endTitle = (service, key) => `End the override of ${sanitize(key, maxText)} of ${service}`;

function endAll(service) {
  return confirmAction({
    title: `End the overrides of ${service}`, text: "The values of file and environment are in force again at once.", button: "End overrides",
    send: ({ reason }) => call(`${path(service)}?reason=${encodeURIComponent(reason)}`, { method: "DELETE" }),
  });
}

// endOne ends the override of one of several keys: it sets the others for the time that is left.
function endOne(service, key) {
  return confirmAction({
    title: endTitle(service, key), text: "The value of file and environment is in force again at once. The other keys stay overridden as long as before.", button: "End override",
    send: async ({ reason }) => {
      const { set, until, reason: previous } = await get(path(service));
      delete set[key];
      const left = (new Date(until) - now()) / 1000;
      if (!Object.keys(set).length || left <= 0) return call(`${path(service)}?reason=${encodeURIComponent(reason)}`, { method: "DELETE" });
      return call(path(service), { method: "PUT", body: { set, duration: left, reason: reason || previous } });
    },
  });
}

// describeChange returns the nodes that describe an event about overrides.
export function describeChange(e) {
  const reason = e.cause === "set" ? e.overrides.reason : e.reason, set = Object.entries(e.overrides.set).map(([key, value]) => `${key} = ${valueText(value)}`).join(", ");
  return [{ set: "overridden for a while: ", dropped: "overrides dropped, as they do not fit the new configuration: " }[e.cause] || `overrides ${e.cause}: `, isolated(set),
    ...(reason ? [", reason “", isolated(reason), "”"] : []), ...(e.error ? ["; ", isolated(e.error)] : [])];
}
