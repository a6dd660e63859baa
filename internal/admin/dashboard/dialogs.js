import { $, keepFocus } from "./dom.js";
import { ApiError, call, errorText, token } from "./api.js";

// showDialog shows a dialog until submit(fields) succeeds or the dialog is cancelled, and returns whether submit
// succeeded. An error of submit is shown in the dialog. Afterwards the element that had the focus gets it back.
function showDialog(dialog, submit) {
  const form = dialog.querySelector("form"), message = dialog.querySelector(".dialog-error"), opener = document.activeElement;
  // Found now, because the opener may be removed from the page while the dialog is open.
  const card = opener.closest(".card"), title = opener.closest("section")?.querySelector("h2[tabindex]");
  message.hidden = true;
  return new Promise((resolve) => {
    let closed = false, sending = false;
    const close = (done) => {
      if (closed) return; // the dialog may be open again for another action
      closed = true;
      form.onsubmit = dialog.oncancel = form.querySelector("[value=cancel]").onclick = null;
      keepFocus(() => dialog.close(), () => [opener, ...(card?.querySelectorAll("button") || []), title, $("services-title")]);
      resolve(done);
    };
    form.onsubmit = async (e) => {
      e.preventDefault();
      if (sending) return;
      sending = true;
      message.hidden = true;
      try {
        await submit(Object.fromEntries(new FormData(form)));
        close(true);
      } catch (error) {
        message.textContent = error.message;
        message.hidden = closed;
      } finally {
        sending = false;
      }
    };
    dialog.oncancel = (e) => {
      e.preventDefault();
      close(false);
    };
    form.querySelector("[value=cancel]").onclick = () => close(false);
    dialog.showModal();
  });
}

// updateUnlockButton shows whether this tab has a token.
export function updateUnlockButton() {
  $("unlock").textContent = token.get() ? "Lock" : "Unlock";
}

// askToken asks for the token and returns whether one was entered. The token is checked by the next request.
export async function askToken() {
  const dialog = $("token-dialog");
  dialog.querySelector("form").reset();
  const done = await showDialog(dialog, async ({ token: t }) => token.set(t.trim()));
  updateUnlockButton();
  return done;
}

// confirmAction asks for the reason of an action and calls send(fields). duration adds a field for a duration; scope adds a
// choice of the scope, with this initial value.
export function confirmAction({ title, text, button, duration = false, scope = "", send }) {
  const dialog = $("action-dialog"), form = dialog.querySelector("form");
  form.reset();
  $("action-title").textContent = title;
  $("action-text").textContent = text;
  $("action-duration").hidden = !duration;
  $("action-scope").hidden = !scope;
  if (scope) form.elements.scope.value = scope;
  dialog.querySelector("[value=ok]").textContent = button;
  return submitWithToken(dialog, send);
}

// submitWithToken asks for the token if this tab has none, shows a dialog and calls send(fields). It returns whether that succeeded.
// showFaults(faults) shows the faults of a request at their fields, none if faults is empty, and returns the others.
export async function submitWithToken(dialog, send, showFaults = (faults) => faults) {
  if (!token.get() && !(await askToken())) return false;
  showFaults([]);
  return showDialog(dialog, async (fields) => {
    try {
      await send(fields);
      showFaults([]);
    } catch (e) {
      if (e instanceof ApiError && e.status === 401) {
        token.set("");
        updateUnlockButton();
        throw new Error("The token is wrong. Cancel, then unlock with the right token.");
      }
      const faults = e.faults || [], left = showFaults(faults);
      throw new Error(left.length < faults.length ? ["A value is not valid. Nothing has changed.", ...left].join("\n") : errorText(e));
    }
  });
}

export const forceState = (service, body) => call(`circuit-breakers/${encodeURIComponent(service)}/force-state`, { method: "POST", body });
