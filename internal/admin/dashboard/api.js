// The client of the admin API. The token is stored for this tab only.
const storageKey = "cbproxy-admin-token";

export const token = {
  get: () => sessionStorage.getItem(storageKey) || "",
  set: (t) => (t ? sessionStorage.setItem(storageKey, t) : sessionStorage.removeItem(storageKey)),
};

// ApiError is an error response, with the text of its problem details (RFC 9457), and the faults alone.
export class ApiError extends Error {
  constructor(status, problem) {
    super([problem.detail || `status ${status}`, ...(problem.faults || [])].join("\n"));
    this.status = status;
    this.faults = problem.faults || [];
  }
}

const requestTimeout = 6000; // ms; the proxy itself waits up to 3 s for the fleet

// call sends a request and returns its response. It throws an ApiError for an error status.
export async function call(path, { method = "GET", body, signal = AbortSignal.timeout(requestTimeout) } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = "Bearer " + token.get();
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch("api/v1/" + path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  return response;
}

export const get = async (path) => (await call(path)).json();

// errorText returns the message for an operator about an error of call.
export function errorText(e) {
  if (e instanceof ApiError) return e.message;
  return e.name === "TimeoutError" ? "The proxy did not respond in time. The action may still be performed." : `Cannot reach the proxy: ${e.message}`;
}

const minBackoff = 1000, maxBackoff = 15000, idleTimeout = 40000; // ms; the proxy sends a comment at least every 15 s

// streamEvents reads the event stream forever and reconnects with a growing backoff. It calls onState(true) and
// onEvent(name, data) for each event, and onState(false, error, backoff) for each failure. It uses fetch, as EventSource
// cannot send the token.
export async function streamEvents(onEvent, onState) {
  for (let backoff = minBackoff; ; backoff = Math.min(backoff * 2, maxBackoff)) {
    try {
      await readStream((name, data) => {
        backoff = minBackoff;
        onState(true);
        onEvent(name, data);
      });
      throw new Error("the stream ended");
    } catch (e) {
      onState(false, e, backoff);
    }
    await new Promise((resolve) => setTimeout(resolve, backoff));
  }
}

// readStream reads events until the stream ends, fails or is idle for idleTimeout.
async function readStream(onEvent) {
  const abort = new AbortController();
  let timer;
  const resetTimer = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(new Error("the stream is idle")), idleTimeout);
  };
  resetTimer();
  try {
    const response = await call("events", { signal: abort.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      resetTimer();
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const name = /^event: (.*)$/m.exec(event), data = /^data: (.*)$/m.exec(event);
        if (name && data) onEvent(name[1], JSON.parse(data[1]));
      }
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
