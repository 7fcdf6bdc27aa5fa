"""Plays directive cases against servers of their own, and says what differs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.rcode

from tests.directives.cases import Case, Start, Surroundings, kind_of
from tests.directives.grounds import Grounds, OwnGrounds, SharedGrounds, may_have_own_grounds
from tests.directives.scene import Scene
from tests.directives.steps import Player
from tests.harness.exchange import UDP, Peer, ask
from tests.harness.server import Server
from tests.harness.waiting import wait_until

START_SECONDS = 15.0


def judge_start(start: Start, directory: Path) -> list[str]:
    """Start a server with the Corefile; how that differs."""
    with ExitStack() as opened:
        grounds = _grounds(start.surroundings, opened)
        server = opened.enter_context(Scene(start.surroundings, grounds, directory, workers=1)).server
        wait_until(lambda: _has_settled(server), lambda: f"started or ended\n{server.said()}", START_SECONDS)
        ended = "running" if server.returncode is None else server.returncode
        # What is said of the port a place has is compared with what the case says of its own.
        said = server.stderr.replace(str(directory), "{dir}").replace(f":{grounds.port(53)}", ":53")
        return start_differences(start, ended, said)


def start_differences(start: Start, ended: int | str, stderr: str) -> list[str]:
    """How the end of a start, and what it said, differ from what is expected."""
    found = []
    if ended != start.exit:
        found.append(f"exit {ended}, expected {start.exit}")
    found += [f"no line {line!r}" for line in start.stderr if line not in stderr.splitlines()]
    if start.stderr_pattern is not None and not re.search(start.stderr_pattern, stderr, re.M):
        found.append(f"nothing like {start.stderr_pattern!r}")
    return [f"{'; '.join(found)}; said: {stderr}"] if found else []


def judge_steps(case: Case, directory: Path) -> Iterator[str]:
    """Run the case's server and do its steps; how each differs."""
    with ExitStack() as opened:
        grounds = _grounds(case.surroundings, opened)
        scene = opened.enter_context(Scene(case.surroundings, grounds, directory))
        _wait_serving(case, scene)
        player = Player(case, scene)
        for step in case.steps:
            try:
                found = player.play(step)
            except (AssertionError, OSError) as error:
                found = [repr(error)]
            if found:
                yield f"{case.name}/{step.get('id', kind_of(step))}: {'; '.join(found)}"


def _grounds(around: Surroundings, opened: ExitStack) -> Grounds:
    if may_have_own_grounds():
        return OwnGrounds(opened, list(around.upstreams))
    return SharedGrounds()


def _wait_serving(case: Case, scene: Scene) -> None:
    """Wait until the server answers wherever it is to, and knows the cluster."""
    server, grounds = scene.server, scene.grounds
    for listening in case.listen:
        host, _, port = listening.rpartition(":")
        try:
            server.wait_answering(host.strip("[]"), grounds.port(int(port)))
        except AssertionError:
            if case.may_end and server.returncode is not None:
                return
            raise
    if case.wait_for is None:
        return
    query = dns.message.make_query(case.wait_for, "A").to_wire()
    peer = Peer(port=grounds.port(case.port))

    def is_known() -> bool:
        reply = grounds.server.run(lambda: ask(peer, query))
        return reply is not None and dns.message.from_wire(reply).rcode() == dns.rcode.NOERROR

    wait_until(is_known, lambda: f"{case.wait_for} is known\n{server.said()}", START_SECONDS)


def _has_settled(server: Server) -> bool:
    """Whether the server answers, or has ended, which it may do between two looks."""
    try:
        return server.is_answering(server.peer(), UDP)
    except AssertionError:
        return server.returncode is not None
