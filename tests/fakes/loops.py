"""Runs a test under the event loop of production and under the one of the standard library."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine

import pytest
import uvloop


def on_each_loop(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Make of an asynchronous test two synchronous ones."""

    @pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: object) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    signature = inspect.signature(test)
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[new_loop, *signature.parameters.values()])  # type: ignore[attr-defined]
    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    run.pytestmark = [*run.pytestmark, *getattr(test, "pytestmark", [])]  # type: ignore[attr-defined]
    return run
