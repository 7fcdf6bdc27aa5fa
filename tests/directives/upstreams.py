"""The upstreams of a case: scripted resolvers at their addresses, in one thread with an event loop."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.apiserver.certificates import make_authority, make_server_certificate
from tests.fakes.scripted_resolver import ScriptedResolver
from tests.fakes.upstream import Upstream
from tests.harness.places import Place

ACTION_SECONDS = 10.0
NAME = "dns.upstream.test"  # in the certificate of an upstream that speaks TLS
TLS_PORT = 853
DNS_PORT = 53


class Upstreams:
    """Resolvers by the addresses a case gives them; `address_of` says where one of these is."""

    def __init__(
        self, place: Place, specs: Mapping[str, Mapping[str, Any]], directory: Path, port: int, moved: Mapping[str, str]
    ) -> None:
        self._directory = directory
        self.authority: Path | None = None
        self._resolvers = {address: ScriptedResolver(spec) for address, spec in specs.items()}
        self._servers = {
            address: Upstream(
                answer=self._resolvers[address],
                host=moved.get(address, address),
                port=spec.get("port", TLS_PORT if spec.get("tls") else port),
                tls=self._tls() if spec.get("tls") else None,
            )
            for address, spec in specs.items()
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstreams", daemon=True)
        self._listening: set[str] = set()
        place.run(self._thread.start)  # its sockets are where it began

    def open(self) -> None:
        """Let those listen that are to."""
        for address in self._servers:
            self._apply(address)

    def change(self, address: str, spec: Mapping[str, Any]) -> None:
        """Change what one says, and whether it is there."""
        self._resolvers[address].change(spec)
        self._apply(address)

    def mark(self) -> None:
        """Count from now on."""
        for resolver in self._resolvers.values():
            resolver.mark()

    def seen(self, address: str, where: Mapping[str, Any]) -> int:
        """How many queries came that fit."""
        return self._resolvers[address].seen(where)

    def close(self) -> None:
        """End all of them."""
        for address in self._listening:
            self._do(self._servers[address].stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _apply(self, address: str) -> None:
        is_down = self._resolvers[address].is_down
        if is_down and address in self._listening:
            self._listening.discard(address)
            self._do(self._servers[address].stop())
        elif not is_down and address not in self._listening:
            self._do(self._servers[address].start())
            self._listening.add(address)

    def _do(self, job: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(job, self._loop).result(ACTION_SECONDS)

    def _tls(self) -> ssl.SSLContext:
        folder = self._directory / "certificates"
        authority = make_authority(folder)
        made = make_server_certificate(folder, authority, "upstream", f"DNS:{NAME}")
        self.authority = authority.certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        return context
