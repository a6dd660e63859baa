import { $, keepFocus } from "./dom.js";
import { Refused, call, told, token } from "./api.js";

// ask shows a dialog until act has done what its form says, or it is cancelled. It returns whether
// it was done; a refusal stays in the dialog. What had the focus gets it back.
function ask(dialog, act) {
  const form = dialog.querySelector("form"), fault = dialog.querySelector(".fault"), opener = document.activeElement;
  const card = opener.closest(".card"), title = opener.closest("section")?.querySelector("h2[tabindex]"); // as long as it is there
  fault.hidden = true;
  return new Promise((resolve) => {
    let over = false, sending = false;
    const close = (done) => {
      if (over) return; // and perhaps open again, for something else
      over = true;
      form.onsubmit = dialog.oncancel = form.querySelector("[value=cancel]").onclick = null;
      keepFocus(() => dialog.close(), () => [opener, ...(card?.querySelectorAll("button") || []), title, $("services-title")]);
      resolve(done);
    };
    form.onsubmit = async (e) => {
      e.preventDefault();
      if (sending) return;
      sending = true;
      fault.hidden = true;
      try {
        await act(Object.fromEntries(new FormData(form)));
        close(true);
      } catch (error) {
        fault.textContent = error.message;
        fault.hidden = over;
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

export function showToken() {
  $("unlock").textContent = token.get() ? "Lock" : "Unlock";
}

// askToken asks for the token; whether it is right shows with what is done next.
export async function askToken() {
  const dialog = $("token-dialog");
  dialog.querySelector("form").reset();
  const done = await ask(dialog, async ({ token: t }) => token.set(t.trim()));
  showToken();
  return done;
}

// act asks why, and then does what is to be done by the API. scope is where, unless it is done
// elsewhere; without it there is no choice.
export async function act({ title, text, button, duration = false, scope = "", send }) {
  if (!token.get() && !(await askToken())) return false;
  const dialog = $("action-dialog"), form = dialog.querySelector("form");
  form.reset();
  $("action-title").textContent = title;
  $("action-text").textContent = text;
  $("action-duration").hidden = !duration;
  $("action-scope").hidden = !scope;
  if (scope) form.elements.scope.value = scope;
  dialog.querySelector("[value=ok]").textContent = button;
  return ask(dialog, async (form) => {
    try {
      await send(form);
    } catch (e) {
      if (!(e instanceof Refused && e.status === 401)) throw new Error(told(e));
      token.set("");
      showToken();
      throw new Error("The token is wrong: unlock again with the right one.");
    }
  });
}

export const force = (service, body) => call(`circuit-breakers/${encodeURIComponent(service)}/force-state`, { method: "POST", body });
