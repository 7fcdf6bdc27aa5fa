"""Changes endpoints in a control plane at a steady pace: `python -m tests.live_controlplane.changer --help`.

Each change is one endpoint that goes, or comes back: a JSON patch of one EndpointSlice. A line of JSON at the end says
how many were made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.controlplane.api import Api

IN_FLIGHT = 32
_PATCH = "application/json-patch+json"


async def change(api: Api, slices: list[dict[str, Any]], rate: float, seconds: float) -> int:
    """Change slices in turn, `rate` a second; returns how many changes were made."""
    turns = _turns(slices)
    started = time.monotonic()
    made = 0

    async def work() -> None:
        nonlocal made
        while True:
            due = started + made / rate
            made += 1
            path, body = next(turns)
            if due - started > seconds or time.monotonic() - started > seconds:
                made -= 1
                return
            await asyncio.sleep(due - time.monotonic())
            await api.request("PATCH", path, body, _PATCH)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(IN_FLIGHT, len(slices))):  # no slice is under way twice
            group.create_task(work())
    return made


def _turns(slices: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each slice without its first endpoint, then each with it again, and so on."""
    for is_removal in cycle((True, False)):
        for item in slices:
            endpoints = item["endpoints"][1:] if is_removal else item["endpoints"]
            yield item["path"], [{"op": "replace", "path": "/endpoints", "value": endpoints}]


async def _run(options: argparse.Namespace) -> None:
    slices = json.loads(options.slices.read_text())
    async with Api(options.url, options.ca, options.token) as api:
        started = time.monotonic()
        made = await change(api, slices, options.rate, options.seconds)
        print(json.dumps({"changes": made, "seconds": time.monotonic() - started}))  # noqa: T201


def main() -> None:
    """Change, and say how often."""
    parser = argparse.ArgumentParser(prog="python -m tests.live_controlplane.changer", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("ca", type=Path)
    parser.add_argument("token")
    parser.add_argument("slices", type=Path, help='a JSON list of {"path": ..., "endpoints": [...]}')
    parser.add_argument("rate", type=float, help="changes a second")
    parser.add_argument("seconds", type=float)
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
