"""An event loop whose clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class HeldLoop(asyncio.SelectorEventLoop):
    """Time stands still until it is moved; what falls due then runs."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__()

    def time(self) -> float:
        """The clock of the loop."""
        return self._now

    async def advance(self, seconds: float) -> None:
        """Let time pass, and what is due run."""
        self._now += seconds
        for _ in range(4):  # a timer's callback may wake a task, which may set the next timer
            await asyncio.sleep(0)


def run_held(test: Callable[[HeldLoop], Coroutine[object, object, None]]) -> None:
    """Run a test in such a loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HeldLoop)
        await test(loop)

    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        runner.run(main())
