"""An example of a client of cbproxy in Python.

For one event it queries the RAG service, sends the result to the rule generation service, and sends both to the
notifier. When a service is unavailable it continues with cbproxy's fallback response, or with the part of a response
that arrived, and the status that it prints lists the degraded steps.

    cbproxy demo &
    python3 examples/orchestrator-python/orchestrator.py 'Who opened door 7?'
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import httpx
from services import ProxyUnavailableError, Response, call, connect


async def orchestrate(proxy: str, timeout: float, event: str) -> dict[str, Any]:
    """Run the three steps for an event, each for at most `timeout` seconds, and return the status.

    The failure of a step does not end it: the next step's request then contains the fallback's response, or null. It
    raises ProxyUnavailableError if cbproxy itself can't be reached.
    """
    async with connect(proxy) as client:
        found = await call(client, "/rag/query", {"query": event}, timeout)
        rules = await call(client, "/rules/generate", {"event": event, "context": found.body}, timeout)
        message = {"event": event, "context": found.body, "rules": rules.body}
        sent = await call(client, "/notify/send", message, timeout)
    degraded = [describe(step) for step in (found, rules, sent) if step.degraded]
    return {
        "event": event,
        "outcome": "degraded" if degraded else "complete",
        "degraded": degraded,
        "context": found.body,
        "rules": rules.body,
        "notified": notified(sent),
    }


def describe(step: Response) -> dict[str, Any]:
    """Describe a degraded step. `by` and `reason` are missing if no fallback answered."""
    return {
        "service": step.service,
        **({"by": step.by, "reason": step.reason} if step.by else {}),
        "breaker": step.breaker,
        **({"retry_after": step.retry_after} if step.retry_after is not None else {}),
        **({"error": step.error} if step.error else {}),
    }


def notified(sent: Response) -> str:
    """Return whether the notification was sent, queued or failed."""
    if sent.by == "queue":
        return "queued"  # cbproxy stored it and delivers it later
    return "sent" if 200 <= sent.status < 300 else "failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--proxy", default="http://127.0.0.1:8080", help="base URL of cbproxy's data plane")
    # Longer than the longest `timeout` of a route (30 s) with its fallback, so that each step gets an answer.
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each of the three steps")
    parser.add_argument("event")
    arguments = parser.parse_args()
    try:
        status = asyncio.run(orchestrate(arguments.proxy, arguments.timeout, arguments.event))
    except (ProxyUnavailableError, httpx.InvalidURL) as e:
        print(f"orchestrator: cbproxy can't be reached: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(status, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
