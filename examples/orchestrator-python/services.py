"""Calls services through cbproxy, and reads from its header fields whether a service itself answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

MAX_RESPONSE = 1 << 20  # the number of bytes of a response that are read


class ProxyUnavailableError(Exception):
    """cbproxy itself can't be reached."""


class ResponseTooLargeError(Exception):
    """A response has more than MAX_RESPONSE bytes."""


@dataclass
class Response:
    """A service's response, the part of it that arrived, or cbproxy's fallback."""

    service: str  # its name, or the path of the request if there is no response
    status: int = 0  # 0 if there is no response
    # The value of a JSON body, None if it is not JSON. For a stream, the list of the events that arrived.
    body: Any = None
    breaker: str = ""  # state of the service's circuit breaker
    by: str = ""  # the fallback strategy that answered; "" if none did
    reason: str = ""  # why a fallback was needed
    retry_after: int | None = None  # seconds until an open breaker sends probes
    error: str = ""  # why there is no response, or only the beginning of one

    @property
    def degraded(self) -> bool:
        """Whether the service itself did not answer, or not completely."""
        return self.by != "" or self.status >= 500 or self.error != ""


def connect(proxy: str) -> httpx.AsyncClient:
    """Return a client for cbproxy's data plane at the URL `proxy`.

    It has no timeouts of its own, because `call` limits the whole call: httpx's default of 5 s is shorter than the
    `timeout` of a route, and the client would give up before it gets the fallback. It ignores HTTP_PROXY and similar
    variables, because cbproxy is on the same machine.
    """
    return httpx.AsyncClient(base_url=proxy, timeout=None, trust_env=False)


async def call(client: httpx.AsyncClient, path: str, request: Any, timeout: float) -> Response:
    """Send a request, and return after at most `timeout` seconds what has arrived of the response.

    It raises ProxyUnavailableError only. Whatever happens to the upstream is described by the response.
    """
    response = Response(service=path)
    try:
        # Not asyncio.timeout, which raises CancelledError with anyio 3.6 and Python 3.11.
        await asyncio.wait_for(exchange(client, path, request, response), timeout)
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as e:
        raise ProxyUnavailableError(str(e)) from e
    except (httpx.HTTPError, ResponseTooLargeError, TimeoutError) as e:
        # There is no response in time, or it broke off after its beginning was sent, when cbproxy could not replace it
        # with the fallback any more. The events that arrived before are kept.
        response.error = f"{type(e).__name__}: {e}".removesuffix(": ")
    return response


async def exchange(client: httpx.AsyncClient, path: str, request: Any, response: Response) -> None:
    """Send a request, and write to `response` what arrives."""
    content, fields = json.dumps(request).encode(), {"Content-Type": "application/json"}
    async with client.stream("POST", path, content=content, headers=fields) as r:
        read_header(response, r)
        await read_body(response, r)


def read_header(response: Response, r: httpx.Response) -> None:
    """Take the status and what cbproxy says about the response from its header section."""
    response.status = r.status_code
    response.service = r.headers.get("X-Circuit-Breaker-Service", response.service)
    response.breaker = r.headers.get("X-Circuit-Breaker-State", "")
    response.by = r.headers.get("X-Fallback", "")
    response.reason = r.headers.get("X-Fallback-Reason", "")
    seconds = r.headers.get("Retry-After", "")  # of cbproxy, or a service's own, which may be a date
    response.retry_after = int(seconds) if seconds.isdecimal() else None


async def read_body(response: Response, r: httpx.Response) -> None:
    """Read the body: a stream of events, whose fallback is not a stream, or a JSON value."""
    match r.headers.get("Content-Type", "").partition(";")[0].strip().lower():
        case "text/event-stream":
            texts = server_sent_events(r)
        case "application/x-ndjson":
            texts = lines(r)
        case _:
            response.body = decode(b"\n".join([line async for line in lines(r)]))
            return
    response.body = []
    async for text in texts:
        response.body.append(decode(text))


async def server_sent_events(r: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the data of each event that is complete."""
    data: list[bytes] = []
    async for line in lines(r):
        if line.startswith(b"data:"):
            data.append(line.removeprefix(b"data:").removeprefix(b" "))
        elif line == b"" and data:  # an empty line ends an event
            yield b"\n".join(data)
            data = []


async def lines(r: httpx.Response) -> AsyncIterator[bytes]:
    """Yield each line as soon as it is complete.

    Newer versions of httpx's aiter_lines also split at characters that JSON allows within a string, such as U+2028.
    """
    size, rest = 0, b""
    async for chunk in r.aiter_bytes():
        size += len(chunk)
        if size > MAX_RESPONSE:
            raise ResponseTooLargeError(f"more than {MAX_RESPONSE} bytes")
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


def decode(text: bytes) -> Any:
    """Return the value of a JSON text, or None if it is not JSON."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # json.loads accepts NaN, which JSON does not have
        return value
    except (ValueError, RecursionError):
        return None
