"""What every child process does first: it becomes its own, and never outlives the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import setproctitle
import uvloop

from kdns import log
from kdns.server.heartbeat import Heartbeat

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_FAILED = 1

# Children leave by the channel's word; a terminal's Ctrl-C reaches the whole process group and is the supervisor's.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Deliver no signal meanwhile: a fork's child has the supervisor's handlers until it has taken its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_child(
    title: str,
    supervisor_pid: int,
    main: Callable[[], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    heartbeat: Heartbeat | None = None,
) -> None:
    """Run `main` in a fresh event loop and end the process; never returns. To be called right after a fork."""
    status = EXIT_FAILED
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:  # it died before the line above
            os._exit(EXIT_FAILED)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        set_title(title)
        # What came from the supervisor lives as long as this process; looking through it would only unshare its pages.
        gc.freeze()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_run(main, heartbeat))
        status = 0
    except Exception as error:
        log.logger().error("%s ended by %s: %s", title, type(error).__name__, error)
    finally:
        with contextlib.suppress(OSError, ValueError):  # nobody listens: nothing to flush
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit(): the supervisor's own loop and sockets are in this memory too, and are not ours to close.
        os._exit(status)


def set_title(title: str) -> None:
    """Name this process as `ps` and `top` show it."""
    setproctitle.setproctitle(title)
    setproctitle.setthreadtitle(title.removeprefix("kdns: "))


async def _run(main: Callable[[], Awaitable[None]], heartbeat: Heartbeat | None) -> None:
    beating = None if heartbeat is None else asyncio.get_running_loop().create_task(heartbeat.run())
    await main()
    if beating is not None:
        beating.cancel()
