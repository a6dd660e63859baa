// The admin API. The token is kept for this tab alone.
const key = "cbproxy-admin-token";

export const token = {
  get: () => sessionStorage.getItem(key) || "",
  set: (t) => (t ? sessionStorage.setItem(key, t) : sessionStorage.removeItem(key)),
};

// Refused is an answer that says no: status, and what the proxy says of it.
export class Refused extends Error {
  constructor(status, problem) {
    super([problem.detail || `status ${status}`, ...(problem.faults || [])].join("\n"));
    this.status = status;
  }
}

const patience = 6000; // ms for an answer; a fleet is told of an order, or not, within 3 s

export async function call(path, { method = "GET", body, signal = AbortSignal.timeout(patience) } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = "Bearer " + token.get();
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch("api/v1/" + path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export const get = async (path) => (await call(path)).json();

// told is what to tell an operator of an error: a refusal in the proxy's words, or that there was none.
export function told(e) {
  if (e instanceof Refused) return e.message;
  return e.name === "TimeoutError" ? "There was no answer; whether it was done will show." : `The proxy can't be reached: ${e.message}`;
}

const firstWait = 1000, longestWait = 15000, silence = 40000; // ms; a comment comes every 15 s

// follow hears the event stream for ever. heard(name, data) gets each event, state(ok, detail) how
// the connection is: a stream by fetch, as EventSource can't send the token.
export async function follow(heard, state) {
  for (let wait = firstWait; ; wait = Math.min(wait * 2, longestWait)) {
    try {
      await read((name, data) => {
        wait = firstWait;
        state(true);
        heard(name, data);
      });
      throw new Error("the stream ended");
    } catch (e) {
      state(false, e, wait);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function read(heard) {
  const abort = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(new Error("nothing was heard for long")), silence);
  };
  alive();
  try {
    const answer = await call("events", { signal: abort.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const name = /^event: (.*)$/m.exec(event), data = /^data: (.*)$/m.exec(event);
        if (name && data) heard(name[1], JSON.parse(data[1]));
      }
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
