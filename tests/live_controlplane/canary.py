"""How long it takes from an event of a real API server to the answer that shows it.

The canary's address is changed again and again. A watch of its own says when the API server tells of the change; from
then until the first answer with the new address is the delay. What it resolves is the pause between two questions.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import dns.message

from tests.controlplane.cluster import ADMIN, ControlPlane
from tests.controlplane.kinds import COLLECTIONS
from tests.live_controlplane.filling import CANARY

PAUSE_SECONDS = 0.0002  # between two questions
TURN_SECONDS = 0.03  # between two changes
SEEN_SECONDS = 10.0
_QUERY = dns.message.make_query(f"{CANARY}.{CANARY}.svc.cluster.local.", "A").to_wire()
_PATCH = {"Content-Type": "application/json-patch+json"}


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from each event to the answer that shows it, and how many questions that took."""

    seconds: list[float] = field(default_factory=list)
    asked: int = 0


class Canary:
    """Changes and watches the canary of one control plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._path = COLLECTIONS["EndpointSlice"].path(CANARY, CANARY)
        self._context = ssl.create_default_context(cafile=plane.ca_file)
        self._headers = {"Authorization": f"Bearer {plane.tokens[ADMIN]}"}
        self._told: dict[str, float] = {}  # when the watch told of an address
        self._number = 0
        self._asking = self._connect()
        self._watching = self._connect()
        self._thread = threading.Thread(target=self._watch, name="canary", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching.sock is not None:
            with suppress(OSError):  # it ended by itself
                self._watching.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._watching.close()
        self._asking.close()

    def measure(self, port: int, seconds: float) -> Delays:
        """Change the canary for some seconds, and ask a server for it."""
        found: list[float] = []
        asked = 0
        end = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.connect(("127.0.0.1", port))
            opened.settimeout(1.0)
            while (began := time.monotonic()) < end:
                address = self._change()
                packed = socket.inet_aton(address)
                while True:
                    opened.send(_QUERY)
                    reply = opened.recv(512)
                    seen = time.monotonic()
                    asked += 1
                    if reply.endswith(packed):
                        break
                    if seen - began > SEEN_SECONDS:
                        raise AssertionError(f"the canary's address {address} was not answered within {SEEN_SECONDS} s")
                    time.sleep(PAUSE_SECONDS)
                while address not in self._told:  # the server was faster than our own watch
                    time.sleep(PAUSE_SECONDS)
                found.append(max(0.0, seen - self._told.pop(address)))
                time.sleep(max(0.0, began + TURN_SECONDS - time.monotonic()))
        return Delays(found, asked)

    def wait_address(self, port: int, address: str, timeout_seconds: float) -> None:
        """Wait until a server answers this address of the canary."""
        packed, end = socket.inet_aton(address), time.monotonic() + timeout_seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.connect(("127.0.0.1", port))
            opened.settimeout(1.0)
            while time.monotonic() < end:
                opened.send(_QUERY)
                if opened.recv(512).endswith(packed):
                    return
                time.sleep(TURN_SECONDS)
        raise AssertionError(f"the canary's address {address} was not answered within {timeout_seconds:g} s")

    def _change(self) -> str:
        self._number += 1
        address = f"10.250.{self._number >> 8 & 255}.{self._number & 255}"
        body = json.dumps([{"op": "replace", "path": "/endpoints/0/addresses", "value": [address]}])
        self._asking.request("PATCH", self._path, body, {**self._headers, **_PATCH})
        answer = self._asking.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return address

    def _watch(self) -> None:
        path = f"{COLLECTIONS['EndpointSlice'].path(CANARY)}?watch=true"
        try:
            self._watching.request("GET", path, headers=self._headers)
            answer = self._watching.getresponse()
            while line := answer.readline():
                now = time.monotonic()
                event = json.loads(line)
                for endpoint in event["object"].get("endpoints") or ():
                    self._told[endpoint["addresses"][0]] = now
        except (OSError, ValueError, http.client.HTTPException):
            return  # closed

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._plane.port, context=self._context, timeout=60)
