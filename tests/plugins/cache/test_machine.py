"""`cache` as a machine: whatever is asked, whatever the servers behind answer, however much time passes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.fakes.cached import CachedServer
from tests.fakes.cached_upstream import Upstream, address, question, server, settle, ttls
from tests.harness.examples import examples

KINDS = ("answer", "nxdomain", "nodata", "empty", "delegation", "servfail", "refused", "error", "truncated", "alias")
FAILURES = ("servfail", "refused", "error", "truncated")
RCODES = {"nxdomain": 3, "servfail": 2, "error": 2, "refused": 5}


@dataclass
class Kept:
    """What the model knows of an entry."""

    kind: str
    number: int
    ttl: int
    stored: int  # ms


@dataclass
class Side:
    least: int
    most: int

    def clamp(self, ttl: int) -> int:
        return min(max(ttl, self.least), self.most)


@dataclass
class Model:
    """What CoreDNS's documentation says, in as few lines as possible."""

    success: Side
    denial: Side
    servfail: int
    stale: int
    verify: bool
    keepttl: bool
    answers: dict[str, Kept] = field(default_factory=dict)
    denials: dict[str, Kept] = field(default_factory=dict)

    def ttl_of(self, upstream: Upstream) -> int:
        if upstream.kind in ("nxdomain", "nodata"):
            return self.denial.clamp(upstream.ttl)
        if upstream.kind == "servfail":
            return self.servfail
        return self.success.clamp(upstream.ttl if upstream.kind in ("answer", "truncated", "alias") else 5)

    def keep(self, key: str, upstream: Upstream, now: int) -> None:
        kept = Kept(upstream.kind, upstream.number, self.ttl_of(upstream), now)
        if not kept.ttl:
            return
        if upstream.kind in ("answer", "empty", "delegation"):
            self.answers[key] = kept
            self.denials.pop(key, None)
        elif upstream.kind in ("nxdomain", "nodata", "servfail"):
            self.denials[key] = kept

    def left(self, kept: Kept, now: int) -> int:
        return kept.ttl - (now - kept.stored) // 1000

    def find(self, key: str, now: int) -> Kept | None:
        found = {
            side: kept
            for side, entries in (("denial", self.denials), ("answer", self.answers))
            if (kept := entries.get(key)) is not None and ((left := self.left(kept, now)) > 0 or -left < self.stale)
        }
        if len(found) == 2 and found["denial"].kind == "servfail":
            return found["answer"]
        return found.get("denial") or found.get("answer")


class CacheMachine(RuleBasedStateMachine):
    """Compares clients' replies, and what was asked behind, with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.cached: CachedServer
        self.model: Model
        self.upstream = Upstream()

    def teardown(self) -> None:
        self.runner.close()

    @initialize(
        success=st.tuples(st.sampled_from((0, 1, 5)), st.sampled_from((1, 10, 3600))),
        denial=st.tuples(st.sampled_from((0, 1, 5)), st.sampled_from((1, 10, 1800))),
        servfail=st.sampled_from((0, 5, 60)),
        stale=st.sampled_from((0, 0, 10, 3600)),
        verify=st.booleans(),
        keepttl=st.booleans(),
    )
    def start(self, success: Any, denial: Any, servfail: int, stale: int, verify: bool, keepttl: bool) -> None:
        lines = [
            f"success 9984 {success[1]} {success[0]}",
            f"denial 9984 {denial[1]} {denial[0]}",
            f"servfail {servfail}s",
            f"serve_stale {stale}s {'verify' if verify else 'immediate'}" if stale else "",
            "keepttl" if keepttl else "",
        ]
        self.cached = server("\n".join(filter(None, lines)), self.upstream)
        self.model = Model(Side(*success), Side(*denial), servfail, stale, verify, keepttl)

    @rule(kind=st.sampled_from(KINDS), ttl=st.sampled_from((0, 1, 3, 8, 40, 5000)), number=st.integers(1, 9))
    def change(self, kind: str, ttl: int, number: int) -> None:
        self.upstream.kind, self.upstream.ttl, self.upstream.number = kind, ttl, number

    @rule(seconds=st.sampled_from((0.001, 0.5, 0.999, 1.0, 2.5, 9.0, 61.0, 3601.0)))
    def wait(self, seconds: float) -> None:
        self.cached.wait(seconds)

    @rule(name=st.sampled_from(("a.test.", "b.test.")), slow=st.booleans())
    def ask(self, name: str, slow: bool) -> None:
        self.runner.run(self._ask(name, slow))

    async def _ask(self, name: str, slow: bool) -> None:
        model, now, before = self.model, self.cached.now, len(self.cached.upstream.asked)
        message = question(name)
        wire = await (self.cached.slow(message) if slow else self.cached.ask(message))
        await settle()
        assert wire is not None
        import dns.message

        reply = dns.message.from_wire(wire)
        asked = len(self.cached.upstream.asked) - before
        kept = model.find(name, now)
        if kept is None:
            assert asked == 1
            self._expect(reply, self.upstream.kind, self.upstream.number, model.ttl_of(self.upstream), is_hit=False)
            model.keep(name, self.upstream, now)
            return
        left = model.left(kept, now)
        if left > 0:
            assert asked == 0
            self._expect(reply, kept.kind, kept.number, kept.ttl if model.keepttl else left, is_hit=True)
            return
        assert asked == 1
        is_better = self.upstream.kind not in (*FAILURES, "alias")
        if model.verify and is_better:
            self._expect(reply, self.upstream.kind, self.upstream.number, model.ttl_of(self.upstream), is_hit=False)
        else:
            self._expect(reply, kept.kind, kept.number, kept.ttl if model.keepttl else 0, is_hit=True)
        if is_better:
            model.keep(name, self.upstream, now)

    def _expect(self, reply: Any, kind: str, number: int, ttl: int, *, is_hit: bool) -> None:
        assert reply.rcode() == RCODES.get(kind, 0)
        assert bool(reply.flags & 0x0400) is is_hit
        assert ttls(reply) <= {ttl}
        if kind in ("answer", "truncated"):
            assert address(reply) == number


TestCache = CacheMachine.TestCase
TestCache.settings = settings(
    max_examples=examples(100), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
