"""Trying a Corefile in a process of its own, before the supervisor sets it up itself.

A Corefile may take minutes to be set up, or all memory, or fall over a fault of ours. It may do so here: this process
can be killed, and nobody misses it. Only what went well here is done once more in the supervisor, in a thread
(`threads.py`), for what comes of it, thousands of Python objects, cannot be handed from one process to another.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from kdns import log
from kdns.errors import KdnsError
from kdns.server.control import Channel, Checked, Failed, fit_text


def check_main(channel: Channel, work: Callable[[], object]) -> Callable[[], Coroutine[None, None, None]]:
    """The coroutine function of the process: does the work, and tells what came of it."""

    async def main() -> None:
        log.logger().disabled = True  # the supervisor says it all again
        try:
            work()
        except KdnsError as error:
            channel.send(Failed(fit_text(str(error))))
        except Exception as error:
            channel.send(Failed(fit_text(f"{type(error).__name__}: {error}")))
        else:
            channel.send(Checked())

    return main
