import { h, setText } from "./dom.js";

// durationValue returns the text of a field for a duration in the form of the API: a number of seconds, or a text such as 5m.
export const durationValue = (text) => (/^[0-9.]+$/.test(text.trim()) ? Number(text) : text.trim());

// faultText returns the texts of those faults, such as "timeout: must be …", that are about a key, and removes them from the set.
export function faultText(faults, key) {
  const prefix = `${key}: `, found = [...faults].filter((f) => f.startsWith(prefix));
  for (const f of found) faults.delete(f);
  return found.map((f) => f.slice(prefix.length)).join("; ");
}

// showFault shows what is wrong with the value of an input, in the element that describes it; nothing if text is "".
export function showFault(input, element, text) {
  element.hidden = !text;
  setText(element, text);
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

// createField returns the label, input and fault of a field of a form. input is an element with an id; hint, which may be missing, is an
// element that describes it, too.
export function createField(label, input, hint) {
  const fault = h("p", { id: input.id + "-fault", class: "fault", hidden: true });
  if (hint) hint.id = input.id + "-hint";
  input.setAttribute("aria-describedby", [fault.id, hint?.id].filter(Boolean).join(" "));
  return { input, element: h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint, fault), showFault: (text) => showFault(input, fault, text) };
}

// createForm returns a dialog with a form, which is added to the page. fields are those of createField, or other elements.
export function createForm({ id, text, button, fields }) {
  const title = h("h2", { id: id + "-title" });
  const element = h("dialog", { id, class: "form", "aria-labelledby": title.id, "aria-describedby": id + "-text" },
    h("form", { method: "dialog" }, title, h("p", { id: id + "-text" }, text), h("p", { class: "dialog-error", role: "alert", hidden: true }),
      ...fields.map((f) => f.element || f),
      h("p", { class: "actions" }, h("button", { value: "cancel", type: "button" }, "Cancel"), " ", h("button", { value: "ok", class: "primary" }, button))));
  document.body.append(element);

  // showFaults shows faults such as "duration: must be …" at the field with that name, moves the focus to the first such field, and returns
  // the other faults.
  function showFaults(faults) {
    const left = new Set(faults);
    for (const f of fields.filter((f) => f.showFault)) f.showFault(f.input.disabled ? "" : faultText(left, f.input.name));
    element.querySelector("[aria-invalid]")?.focus();
    return [...left];
  }
  return { element, form: element.querySelector("form"), setTitle: (text) => setText(title, text), showFaults };
}
