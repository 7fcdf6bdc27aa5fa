"""How the supervisor forks a child, and what the child lets go of before it becomes what it is for."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from typing import NoReturn

from kdns.server.check import check_main
from kdns.server.child import run_child, signals_held
from kdns.server.configuration import close_sockets
from kdns.server.control import Channel
from kdns.server.endpoints import HttpEndpoints
from kdns.server.heartbeat import Heartbeat
from kdns.server.instance import Child, Feed, Instance, Role
from kdns.server.processes import Owner, Processes
from kdns.server.worker import worker_main


def fork_child(role: Role, owner: Owner, processes: Processes, http: HttpEndpoints) -> Child:
    """Start a child. Raises OSError where descriptors, processes or memory are short; nothing is left of it then."""
    ours, theirs = Channel.pair()
    metrics = processes.current.context.resolver.surroundings.metrics
    row = None
    try:
        if role is not Role.CHECKER and (row := metrics.take_row()) is None:
            raise OSError(errno.EAGAIN, "no row of shared memory is free")
        heartbeat = Heartbeat()
        supervisor_pid = os.getpid()
        sys.stdout.flush()
        with signals_held():
            pid = os.fork()
            if pid == 0:
                ours.close()
                _become(role, owner, processes, http, supervisor_pid, theirs, row, heartbeat)
    except OSError:
        ours.close()
        metrics.release_row(row)
        raise
    finally:
        theirs.close()
    return Child(pid, role, ours, time.monotonic(), owner, row, heartbeat)


def _become(
    role: Role,
    owner: Owner,
    processes: Processes,
    http: HttpEndpoints,
    supervisor_pid: int,
    channel: Channel,
    row: int | None,
    heartbeat: Heartbeat,
) -> NoReturn:
    """In the child: be what the role says, and nothing more of the supervisor."""
    try:
        http.close_inherited()
        for sibling in processes.children.values():
            sibling.channel.close()
        processes.current.context.resolver.surroundings.metrics.attach(row)
        _forget_others(owner, processes)
        if isinstance(owner, Instance):
            main = worker_main(owner.context, channel, owner.feed.table_fd)
            run_child(role.value, supervisor_pid, main, heartbeat=heartbeat)
        elif isinstance(owner, Feed):
            # Imported by who needs it, and not before the first workers serve: it is a third of the program.
            from kdns.server.informer import informer_main

            main = informer_main(owner.context, channel, owner.table_fd)
            run_child(role.value, supervisor_pid, main, heartbeat=heartbeat)
        else:
            run_child(role.value, supervisor_pid, check_main(channel, owner.work), asyncio.new_event_loop)
    finally:
        os._exit(1)  # never back into the supervisor's code


def _forget_others(owner: Owner, processes: Processes) -> None:
    """Close the sockets and tables of others.

    A socket that is open anywhere is one the kernel gives queries to; a table is in memory as long as anybody has it.
    """
    own_context = owner.context if isinstance(owner, Instance) else None
    own_feed = owner.feed if isinstance(owner, Instance) else owner
    for instance in (processes.current, processes.candidate):
        if instance is None:
            continue
        if instance is not owner:
            close_sockets(instance.context, own_context)
            instance.context.resolver.surroundings.current_table.table = None
        if instance.feed is not own_feed:
            instance.feed.close()
    if isinstance(owner, Feed):
        owner.table = None  # the informer maps it itself
