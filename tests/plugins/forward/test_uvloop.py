"""The loop workers run on: what differs from asyncio's is how descriptors are watched and let go of."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence

import pytest
import uvloop

from tests.fakes.upstream import Seen, Upstream
from tests.plugins.forward.forwarding import addresses, forwarding


def open_descriptors() -> int:
    gc.collect()  # the memory a forward shares goes with it, and it is in a cycle
    return len(os.listdir("/proc/self/fd"))


async def exchanges(forward_lines: Sequence[str], *, stream: bool) -> None:
    """Queries one by one and many at once, past an upstream that refuses, is lied for, and hangs up."""
    async with Upstream() as gone:
        pass

    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.address("203.0.113.66")[:-1], seen.address()] if seen.transport == "udp" else [seen.address()]

    async with (
        Upstream(answer) as upstream,
        forwarding(
            f"forward . 127.0.0.2:{gone.port} 127.0.0.1:{upstream.port} {{", "policy sequential", *forward_lines, "}"
        ) as forward,
    ):
        for round_number in range(2):
            for number in range(10):
                name = f"n{number}.r{round_number}.test"
                assert addresses(await forward.ask(name, stream=stream), name) == ["192.0.2.1"]
            wanted = [f"m{number}.r{round_number}.test" for number in range(50)]
            for reply in await asyncio.gather(*(forward.ask(name, stream=stream) for name in wanted)):
                assert len(addresses(reply)) == 1
            upstream.close_streams()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lines", [(), ("max_idle_conns 2",), ("expire 0s",)])
def test_exchanges_leave_nothing_open(lines: Sequence[str], stream: bool) -> None:
    async def main() -> int:
        await exchanges(lines, stream=stream)
        await asyncio.sleep(0)
        return open_descriptors()

    uvloop.run(main())  # what libuv opens once for the process
    before = open_descriptors()
    uvloop.run(main())
    assert open_descriptors() <= before
