"""Runs directive cases: starts servers, does steps, and says what differs."""

from __future__ import annotations

import http.client
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode

from tests.directives.cases import Case, Start
from tests.harness.exchange import UDP, Peer, ask
from tests.harness.places import Place
from tests.harness.server import Server
from tests.harness.waiting import wait_until

WITHIN_SECONDS = 3.0  # log lines and HTTP replies are awaited this long
START_SECONDS = 10.0
HTTP_SECONDS = 0.5  # for one reply, and twice that for the expected one
REFUSED, SILENT = 0, -1  # in place of an HTTP status
SECTIONS = ("answer", "authority", "additional")


def observe_start(place: Place, directory: Path, start: Start) -> tuple[int | str, str]:
    """Start a server with the Corefile: its exit status, or `running`, and what it said on standard error."""
    with start_server(place, directory, start.corefile, start.files, start.environment, start.arguments) as server:
        wait_until(
            lambda: _has_settled(server),
            lambda: f"started or ended\n{server.said()}",
            START_SECONDS,
        )
        ended = "running" if server.returncode is None else server.returncode
        # What is said of the ports a place has is compared with what the case says of its own.
        said = server.stderr.replace(str(directory), "{dir}")
        return ended, said.replace(f":{place.dns_port}", ":53")


def start_differences(start: Start, ended: int | str, stderr: str) -> list[str]:
    """How the end of a start, and what it said, differ from what is expected."""
    found = []
    if ended != start.exit:
        found.append(f"exit {ended}, expected {start.exit}")
    found += [f"no line {line!r}" for line in start.stderr if line not in stderr.splitlines()]
    if start.stderr_pattern is not None and not re.search(start.stderr_pattern, stderr, re.M):
        found.append(f"nothing like {start.stderr_pattern!r}")
    return [f"{'; '.join(found)}; said: {stderr}"] if found else []


def judge_steps(place: Place, directory: Path, case: Case) -> Iterator[str]:
    """Run the case's server and do its steps; how each differs."""
    with start_server(place, directory, case.corefile, case.files, case.environment, ()) as server:
        for address in case.listen:
            host, _, port = address.rpartition(":")
            server.wait_answering(host, int(port) if int(port) != 53 else None)
        for step in case.steps:
            for text in judge_step(server, case, step):
                yield f"{case.name}/{step.get('id', '')}: {text}"


def start_server(
    place: Place,
    directory: Path,
    corefile: str,
    files: Mapping[str, str],
    environment: Mapping[str, str],
    arguments: Sequence[str],
) -> Server:
    """A server with files beside its Corefile and no cluster."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place.with_own_ports(text))
    return Server(place, directory, corefile, workers=1, environment=environment, arguments=arguments)


def judge_step(server: Server, case: Case, step: Mapping[str, Any]) -> list[str]:
    """Do one step; how what happens differs."""
    kinds: dict[str, Callable[[], list[str]]] = {
        "q": lambda: _judge_query(server, case, step),
        "http": lambda: _judge_http(server, step),
        "log": lambda: _judge_log(server, step),
        "signal": lambda: _send_signal(server, step),
        "process": lambda: _judge_process(server, step),
    }
    return next(kinds[kind]() for kind in kinds if kind in step)


def reply_differences(step: Mapping[str, Any], reply: dns.message.Message) -> list[str]:
    """How a reply differs; sections not named are expected empty."""
    found = []
    rcode = dns.rcode.to_text(reply.rcode())
    if rcode != step["rcode"]:
        found.append(f"rcode {rcode}, expected {step['rcode']}")
    for name, flag in (("aa", dns.flags.AA), ("ra", dns.flags.RA)):
        if bool(reply.flags & flag) != step.get(name, False):
            found.append(f"{name} is {'set' if reply.flags & flag else 'clear'}")
    for section in SECTIONS:
        if section not in step.get("ignore", ()):
            got = sorted(f"{rrset}" for rrset in getattr(reply, section))
            if got != sorted(step.get(section, [])):
                found.append(f"{section} {got}")
    if reply.edns >= 0:
        found.append("OPT, though none was sent")
    return found


def _judge_query(server: Server, case: Case, step: Mapping[str, Any]) -> list[str]:
    query = dns.message.make_query(step["q"], step.get("type", "A"))
    port = step.get("port", case.port) or server.place.dns_port
    wire = server.place.run(lambda: ask(Peer(port=port), query.to_wire(), step.get("transport", UDP)))
    return ["no reply"] if wire is None else reply_differences(step, dns.message.from_wire(wire))


def _judge_http(server: Server, step: Mapping[str, Any]) -> list[str]:
    port, _, path = step["http"].removeprefix(":").partition("/")

    def get() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=HTTP_SECONDS)
        try:
            connection.request("GET", f"/{path}")
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except ConnectionError:  # refused, or reset when the listener closes with it in its queue
            return REFUSED, ""
        except TimeoutError:
            return SILENT, ""
        finally:
            connection.close()

    expected = (step["status"], step.get("body"))

    def is_expected() -> bool:
        status, body = server.place.run(get)
        return status == expected[0] and expected[1] in (None, body)

    return _awaited(is_expected, lambda: f"HTTP {server.place.run(get)}, expected {expected}", 2 * HTTP_SECONDS)


def _judge_log(server: Server, step: Mapping[str, Any]) -> list[str]:
    def missing() -> list[str]:
        lines = server.stdout.replace(f":{server.place.dns_port}", ":53").splitlines()
        return [pattern for pattern in step["log"] if not any(re.fullmatch(pattern, line) for line in lines)]

    return _awaited(lambda: not missing(), lambda: f"no lines {missing()} in {server.stdout}")


def _send_signal(server: Server, step: Mapping[str, Any]) -> list[str]:
    server.send_signal(signal.Signals[f"SIG{step['signal']}"])
    return []


def _judge_process(server: Server, step: Mapping[str, Any]) -> list[str]:
    ended = f"exit {server.wait_ended(step.get('within', WITHIN_SECONDS))}"
    return [] if ended == step["process"] else [f"{ended}, expected {step['process']}"]


def _awaited(
    condition: Callable[[], bool], what: Callable[[], str], timeout_seconds: float = WITHIN_SECONDS
) -> list[str]:
    try:
        wait_until(condition, what, timeout_seconds)
    except AssertionError as error:
        return [str(error)]
    return []


def _has_settled(server: Server) -> bool:
    """Whether the server answers, or has ended, which it may do between two looks."""
    try:
        return server.is_answering(server.peer(), UDP)
    except AssertionError:
        return server.returncode is not None
