"""`loop`: finds the upstreams whose way leads back here, and has them taken out.

Every upstream of the block is asked for a name that nobody else can know. If that question arrives at this server, the
upstream forwards to it, whatever lies between. CoreDNS ends itself then; here the one upstream is asked no more, and
every name that needs no upstream goes on being answered.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import weakref
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol, cast

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.plugin import Handler, Plugin, Request, Setup

START_SECONDS = 0.1  # after a worker began to serve: its sockets are read by then
ROUND_SECONDS = 60.0  # between two rounds of probes: what did not lead back at the start may do so later
LOCK_SECONDS = 1.0  # between two tries to become the worker that probes
LABEL_OCTETS = 8  # of each of a probe's two labels, before they are spelled as hexadecimal digits

_LOG = log.plugin_logger("loop")


class Upstream(Protocol):
    """What `forward` lets others know of an upstream."""

    address: str

    def take_out(self, reason: str) -> None:
        """Never ask it again, in any worker."""
        ...

    async def probe(self, name: bytes, qtype: int) -> bool:
        """Ask it a question of our own; whether it answers anything."""
        ...


class Forwarding(Protocol):
    """The `forward` of a block, as `loop` sees it."""

    @property
    def upstreams(self) -> Sequence[Upstream]:
        """Everybody who may be asked now."""
        ...


class Loop:
    """Probes the upstreams of a block, and recognises the probes that come back."""

    transparent = True

    def __init__(self, zone: bytes) -> None:
        self._zone = zone
        self._secret = os.urandom(16)  # shared by the workers, which are forked from here
        self._lock = os.memfd_create("kdns-loop")
        # Not at the end of the process: in a worker its closing would let another one probe.
        weakref.finalize(self, os.close, self._lock).atexit = False
        self._forwarding: Forwarding | None = None
        self._taken_out: set[str] = set()

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Without `forward` there is nothing to probe."""
        self._forwarding = cast("Forwarding | None", plugins.get("forward"))

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on what is no probe of ours. A probe gets no answer: it would only go around."""
        query = request.query
        if query.qtype != RRType.HINFO or self._forwarding is None:
            return await next_handler(request)
        for upstream in self._forwarding.upstreams:
            if self._is_probe(query.qname, upstream):
                self._on_loop(request, upstream)
                raise ServeError("", Rcode.SERVFAIL)
        return await next_handler(request)

    async def run(self) -> None:
        """Probe in rounds, in one worker of all; the next one takes over when it ends."""
        await asyncio.sleep(START_SECONDS)
        while not self._is_prober():  # noqa: ASYNC110 - the lock is another process's, nothing tells when it is free
            await asyncio.sleep(LOCK_SECONDS)
        while True:
            if self._forwarding is not None:
                for upstream in self._forwarding.upstreams:
                    await upstream.probe(self._probe_name(upstream), RRType.HINFO)
            await asyncio.sleep(ROUND_SECONDS)

    def _is_prober(self) -> bool:
        """Whether this process is the one that probes: the kernel gives the lock to one, until that one ends."""
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _probe_name(self, upstream: Upstream) -> bytes:
        """A name below the block's zone: a nonce, and what only its maker can make of nonce and upstream."""
        nonce = os.urandom(LABEL_OCTETS).hex().encode()
        return names.from_labels([nonce, self._sign(nonce, upstream)])[:-1] + self._zone

    def _is_probe(self, qname: bytes, upstream: Upstream) -> bool:
        if not qname.endswith(self._zone):
            return False
        labels = names.labels_of(qname[: len(qname) - len(self._zone)] + b"\0")
        return len(labels) == 2 and labels[1] == self._sign(labels[0], upstream)

    def _sign(self, nonce: bytes, upstream: Upstream) -> bytes:
        data = nonce + upstream.address.encode()
        return blake2b(data, key=self._secret, digest_size=LABEL_OCTETS).hexdigest().encode()

    def _on_loop(self, request: Request, upstream: Upstream) -> None:
        if upstream.address in self._taken_out:
            return  # the same probe, by another way
        self._taken_out.add(upstream.address)
        address, port = request.client
        client = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        _LOG.error(
            'Loop (%s -> %s) detected for zone "%s": the upstream %s leads back to this server; '
            "give forward another one",
            client,
            request.server.partition("://")[2],
            names.to_text(self._zone),
            upstream.address,
        )
        upstream.take_out("its answers would come from this server itself")


def setup(setup: Setup) -> Loop:
    """`loop`, no arguments, once per block."""
    directive = setup.directive
    for _ in directive.only_occurrence():
        if directive.next_arg():
            raise directive.arg_error()
    return Loop(setup.zones[0])
