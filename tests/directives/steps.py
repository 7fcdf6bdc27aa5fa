"""Does the steps of a case, one after the other, and says how what happens differs."""

from __future__ import annotations

import http.client
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.directives.asking import ask_at_once, ask_on_one_connection, ask_step
from tests.directives.cases import DEFAULT_WITHIN, Case, Step, kind_of
from tests.directives.comparison import Reply, is_within, reply_differences
from tests.directives.scene import Scene
from tests.harness.exchange import Peer
from tests.harness.waiting import wait_until

HTTP_SECONDS = 4.0  # for one reply
SETTLE_SECONDS = 0.1  # in which a line on its way is written
REFUSED, SILENT = 0, -1  # in place of an HTTP status
ADDRESSES = ("A", "AAAA", "MX")  # records that take turns
_URL = re.compile(r"(?:http://)?(\[[^\]]+\]|[^:/]*):(\d+)(/.*)")

Attempt = Callable[[], list[str]]


class Player:
    """Plays a case in its scene."""

    def __init__(self, case: Case, scene: Scene) -> None:
        self._case = case
        self._scene = scene
        self._server = scene.server
        self._log_mark = 0
        self._kinds: Mapping[str, Callable[[Step], list[str]]] = {
            "q": self._judge_query,
            "seen": self._judge_seen,
            "http": self._judge_http,
            "log": self._judge_log,
            "nolog": self._judge_log,
            "burst": self._judge_burst,
            "pipeline": self._judge_pipeline,
            "process": self._judge_process,
        }

    def play(self, step: Step) -> list[str]:
        """Do one step; how what happens differs."""
        kind = kind_of(step)
        if kind in self._kinds:
            return self._kinds[kind](step)
        self._act(kind, step)
        return []

    def _act(self, kind: str, step: Step) -> None:
        match kind:
            case "upstream":
                self._scene.upstreams.change(step["upstream"], step["set"])
            case "mark":
                self._scene.upstreams.mark()
            case "write":
                for name, text in step["write"].items():
                    self._scene.write(name, text)
            case "signal":
                self._server.send_signal(signal.Signals[f"SIG{step['signal']}"])
            case "sleep":
                time.sleep(step["sleep"])  # until something has expired, which nothing shows before it is asked for
            case "logmark":
                time.sleep(SETTLE_SECONDS)
                self._log_mark = len(self._server.stdout)
            case _:
                assert self._scene.cluster is not None
                self._scene.cluster.apply(step.get("apply", ()))
                self._scene.cluster.delete(step.get("delete", ()))

    # Queries

    def _peer(self, step: Mapping[str, Any]) -> Peer:
        client = step.get("client_ip", self._case.client)
        address = step.get("server") or ("::1" if client and ":" in client else "127.0.0.1")
        return Peer(address, self._scene.grounds.port(step.get("port", self._case.port)), client)

    def _ask(self, step: Step) -> Reply | None:
        peer = self._peer(step)
        return self._scene.grounds.server.run(lambda: ask_step(step, peer, step["q"]))

    def _judge_query(self, step: Step) -> list[str]:
        if "until" in step:
            return _awaited(lambda: self._judge_until(step), _within(step))
        if "repeat" in step:
            return self._judge_repeated(step)
        return _reply_or_silence(step, self._ask(step))

    def _judge_until(self, step: Step) -> list[str]:
        reply = self._ask(step)
        if reply is not None and re.search(step["until"], " ".join([reply.rcode, *map(str, reply.answer)])):
            return _reply_or_silence(step, reply)
        return [f"no {step['until']!r} in {reply}"]

    def _judge_repeated(self, step: Step) -> list[str]:
        replies = []
        for _ in range(step["repeat"]):
            reply = self._ask(step)
            if reply is None:
                return ["no reply"]
            replies.append(reply)
        found = reply_differences(step, replies[0])
        if not step.get("varies") and any(reply.content() != replies[0].content() for reply in replies):
            found.append("replies differ between repetitions")
        orders = "one" if len({reply.values for reply in replies}) == 1 else "many"
        if step.get("orders", orders) != orders:
            found.append(f"{orders} order of the records, expected {step['orders']}")
        firsts = Counter(_first_address(reply) for reply in replies)
        for address, expected in step.get("firsts", {}).items():
            if not is_within(firsts[address], expected):
                found.append(f"{address} stood first {firsts[address]} times, expected {expected}")
        return found

    def _judge_burst(self, step: Step) -> list[str]:
        peer = self._peer(step["burst"])
        # Threads begin where the thread that starts them is.
        rcodes = self._scene.grounds.server.run(lambda: ask_at_once(step, peer))
        return [
            f"{rcodes.get(rcode, 0)} x {rcode}, expected {step['rcodes'].get(rcode, 0)}"
            for rcode in sorted({*rcodes, *step["rcodes"]})
            if not is_within(rcodes.get(rcode, 0), step["rcodes"].get(rcode, 0))
        ]

    def _judge_pipeline(self, step: Step) -> list[str]:
        names = step["pipeline"]
        peer = self._peer(step)
        replies = self._scene.grounds.server.run(lambda: ask_on_one_connection(names, peer))
        order = [number for number, _ in replies]
        if step.get("any_order"):
            order.sort()
        rcodes = {names[number]: rcode for number, rcode in replies}
        found = [] if order == step["order"] else [f"replies in the order {order}, expected {step['order']}"]
        return found + ([] if rcodes == step["rcodes"] else [f"{rcodes}, expected {step['rcodes']}"])

    # What shows elsewhere

    def _judge_seen(self, step: Step) -> list[str]:
        def attempt() -> list[str]:
            count = self._scene.upstreams.seen(step["seen"], step.get("where", {}))
            if is_within(count, step["n"]):
                return []
            return [f"{step['seen']} saw {count} of {step.get('where', {})}, expected {step['n']}"]

        return _awaited(attempt, step.get("within", 0.0))

    def _judge_http(self, step: Step) -> list[str]:
        def attempt() -> list[str]:
            status, body = self._scene.grounds.server.run(lambda: _get(step["http"]))
            return self._http_differences(step, status, body)

        return _awaited(attempt, _within(step))

    def _http_differences(self, step: Step, status: int, body: str) -> list[str]:
        found = []
        if status != step.get("status", status):
            found.append(f"status {status}, expected {step['status']}")
        if body != step.get("body", body):
            found.append(f"body {body!r}, expected {step['body']!r}")
        if "body_re" in step and not re.search(step["body_re"], body):
            found.append(f"body {body!r} does not match {step['body_re']!r}")
        missing, unwanted = self._lines(step.get("lines", ()), step.get("nolines", ()), body)
        return found + [f"no line {line}" for line in missing] + [f"line {line}" for line in unwanted]

    def _judge_log(self, step: Step) -> list[str]:
        def attempt() -> list[str]:
            said = self._server.stdout[self._log_mark :]
            missing, unwanted = self._lines(step.get("log", ()), step.get("nolog", ()), said)
            return [f"no line {line} in {said}" for line in missing] + [f"line {line}" for line in unwanted]

        if "nolog" in step:
            time.sleep(SETTLE_SECONDS)
        return _awaited(attempt, _within(step) if "log" in step else 0.0)

    def _lines(self, expected: Sequence[str], unwanted: Sequence[str], text: str) -> tuple[list[str], list[str]]:
        """Of whole lines, the patterns none matches, and those lines that match what they must not."""
        lines, here = text.splitlines(), self._scene.grounds.expected
        missing = [pattern for pattern in expected if not any(re.fullmatch(here(pattern), line) for line in lines)]
        return missing, [line for line in lines if any(re.fullmatch(here(pattern), line) for pattern in unwanted)]

    def _judge_process(self, step: Step) -> list[str]:
        deadline = time.monotonic() + _within(step)
        while time.monotonic() < deadline and self._server.returncode is None:
            time.sleep(0.05)
        state = "running" if self._server.returncode is None else f"exit {self._server.returncode}"
        return [] if state == step["process"] else [f"process {state}, expected {step['process']}"]


def _reply_or_silence(step: Step, reply: Reply | None) -> list[str]:
    if step.get("no_reply"):
        return [] if reply is None else [f"a reply, {reply.rcode}, where none is due"]
    return ["no reply"] if reply is None else reply_differences(step, reply)


def _first_address(reply: Reply) -> str:
    return next((record.rdata for record in reply.answer if record.rtype in ADDRESSES), "")


def _within(step: Step) -> float:
    return float(step.get("within", DEFAULT_WITHIN[kind_of(step)]))


def _awaited(attempt: Attempt, timeout_seconds: float) -> list[str]:
    """What an attempt finds when it first finds nothing, or at the end of the time."""
    found: list[list[str]] = [[]]

    def is_as_expected() -> bool:
        found[0] = attempt()
        return not found[0]

    try:
        wait_until(is_as_expected, "", timeout_seconds)
    except AssertionError:
        return found[0]
    return []


def _get(url: str) -> tuple[int, str]:
    parts = _URL.fullmatch(url)
    assert parts is not None, url
    host, port, path = parts.groups()
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=HTTP_SECONDS)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    except ConnectionError:  # refused, or reset when the listener closes with it in its queue
        return REFUSED, ""
    except TimeoutError:
        return SILENT, ""
    finally:
        connection.close()
