"""Watches, as kube-apiserver serves them: from a version, or with the initial state first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.fakes.apiserver.calls import Call, body_of, typed
from tests.fakes.apiserver.faults import Fault, Faults
from tests.fakes.apiserver.journal import Journal
from tests.fakes.apiserver.statuses import Refused, invalid, too_large, too_old
from tests.fakes.apiserver.storage import Commit, Storage, Version
from tests.fakes.apiserver.streams import Stream

DEFAULT_TIMEOUT = 1800.0  # seconds; kube-apiserver takes 1 to 2 times its --min-request-timeout
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_STREAM_FAULTS = ("cut", "stall", "watch-gone", "watch-end", "bookmark", "poison")
_POISONS = {
    "null-object": b'{"type":"MODIFIED","object":null}\n',
    "no-type": b'{"object":{"metadata":{}}}\n',
    "not-an-object": b"[5]\n",
    "not-json": b"<html>proxy</html>\n",
    "nested": b'{"type":"ADDED","object":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}\n",
}


class _Ended(Exception):
    """The watch is over; how its stream ends has been seen to."""


@dataclass(eq=False, slots=True)
class Watch:
    """One open watch."""

    call: Call
    storage: Storage
    journal: Journal
    faults: Faults
    bookmark_interval_seconds: float
    future_wait_seconds: float
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    position: int = 0  # the version up to which all is sent
    sent: int = 0  # events

    async def serve(self, stream: Stream) -> None:
        """Send events until something ends it."""
        try:
            await self._open(stream)
            await self._follow(stream)
        except _Ended:
            pass

    async def _open(self, stream: Stream) -> None:
        call, version = self.call, self.call.resource_version
        missing = self.faults.take("watch-list-missing", call.kind) if call.flag("sendInitialEvents") else None
        if missing and missing.how == "refused":
            raise invalid("sendInitialEvents", "forbidden for watch unless the WatchList feature gate is enabled")
        if self.faults.take("short-watch", call.kind):
            await stream.open()
            raise _Ended
        gone = self.faults.find("watch-gone", call.kind)
        if gone and gone.how == "status" and version not in ("", "0"):
            self.faults.meet(gone)
            raise Refused(too_old(int(version), self.storage.rv))
        await stream.open()
        wants_initial = call.flag("sendInitialEvents") and not (missing and missing.how == "ignored")
        if wants_initial and version not in ("", "0") and int(version) > self.storage.rv:
            await asyncio.sleep(self.future_wait_seconds)
            if int(version) > self.storage.rv:
                await self._send_error(stream, too_large(int(version), self.storage.rv))
        if wants_initial or version in ("", "0"):
            await self._send_initial(stream)
            if wants_initial and not (missing and missing.how == "endless"):
                await self._send_bookmark(stream, {INITIAL_EVENTS_END: "true"})
            return
        self.position = int(version)
        if self.position < self.storage.compacted:
            await self._send_error(stream, too_old(self.position, self.storage.compacted))

    async def _send_initial(self, stream: Stream) -> None:
        versions, self.position, sequence = self.storage.snapshot(self.call.kind)
        for version in versions:
            if self.call.selects(version.raw):
                await self._meet_faults(stream)
                await self._send(stream, "ADDED", version)
        if not self.call.metadata_only:
            self.journal.tell_list(self.call.kind, sequence)

    async def _follow(self, stream: Stream) -> None:
        timeout = float(self.call.number("timeoutSeconds")) or DEFAULT_TIMEOUT
        deadline = time.monotonic() + timeout
        wants_bookmarks = self.call.flag("allowWatchBookmarks")
        next_bookmark = time.monotonic() + self.bookmark_interval_seconds
        while True:
            self.changed.clear()
            await self._meet_faults(stream)
            if self.position < self.storage.dropped[self.call.kind]:
                await self._send_error(stream, too_old(self.position, self.storage.compacted))
            for commit in self.storage.commits(self.call.kind, self.position):
                await self._send_commit(stream, commit)
                await self._meet_faults(stream)
            now = time.monotonic()
            if now >= deadline:
                if wants_bookmarks:
                    await self._send_bookmark(stream)
                return
            if now >= next_bookmark:
                next_bookmark = now + self.bookmark_interval_seconds
                if wants_bookmarks:
                    self.position = max(self.position, self.storage.rv)
                    await self._send_bookmark(stream)
            await self._wait_changed(min(deadline, next_bookmark) - now)

    async def _wait_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self.changed.wait()
        except TimeoutError:
            pass

    async def _send_commit(self, stream: Stream, commit: Commit) -> None:
        """Send a change as it looks to one who sees only what is selected."""
        self.position = commit.new.rv
        was = commit.old is not None and self.call.selects(commit.old.raw)
        is_now = commit.new.raw is not None and self.call.selects(commit.new.raw)
        if not was and not is_now:
            return
        kind = ("MODIFIED" if was else "ADDED") if is_now else "DELETED"
        mistyped = self.faults.find("mistyped", self.call.kind)
        if mistyped is not None:
            kind = await self._mistype(stream, mistyped, kind, commit.new)
        if kind == "MODIFIED" and commit.old is not None and self.faults.take("replay", self.call.kind):
            await self._send(stream, kind, commit.new)
            await self._send(stream, kind, commit.old)
        await self._send(stream, kind, commit.new)

    async def _mistype(self, stream: Stream, fault: Fault, kind: str, version: Version) -> str:
        if fault.how == "duplicate":
            self.faults.meet(fault)
            await self._send(stream, kind, version)
        elif fault.how == "added-known" and kind == "MODIFIED":
            self.faults.meet(fault)
            return "ADDED"
        elif fault.how == "modified-unknown" and kind == "ADDED":
            self.faults.meet(fault)
            return "MODIFIED"
        elif fault.how == "deleted-unknown":
            self.faults.meet(fault)
            metadata = {"name": "never-was", "namespace": "default", "resourceVersion": str(version.rv)}
            body = msgspec.json.encode({"metadata": metadata})[1:]
            await stream.write(_line(b"DELETED", typed(body, self.call)))
        return kind

    async def _send(self, stream: Stream, kind: str, version: Version) -> None:
        line = _line(kind.encode(), typed(body_of(version, self.call, self.faults), self.call))
        await stream.write(line)
        self.sent += 1
        if not self.call.metadata_only:
            self.journal.send(version)

    async def _send_bookmark(self, stream: Stream, annotations: dict[str, str] | None = None) -> None:
        metadata: dict[str, Any] = {"resourceVersion": str(self.position), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        body = msgspec.json.encode({"metadata": metadata})[1:]
        await stream.write(_line(b"BOOKMARK", typed(body, self.call)))

    async def _send_error(self, stream: Stream, status: dict[str, Any]) -> None:
        await stream.write(_line(b"ERROR", msgspec.json.encode(status)))
        raise _Ended

    async def _meet_faults(self, stream: Stream) -> None:
        for name in _STREAM_FAULTS:
            if fault := self.faults.find(name, self.call.kind, after=self.sent):
                await self._meet(stream, fault)
        while frozen := self.faults.find("frozen"):
            self.faults.meet(frozen)
            await frozen.ended.wait()

    async def _meet(self, stream: Stream, fault: Fault) -> None:
        if fault.name == "bookmark" and fault.met > self.sent:
            return  # one for each event is enough
        self.faults.meet(fault)
        match fault.name:
            case "cut":
                await stream.cut(fault.how, self._next_line())
                raise _Ended
            case "stall":
                await fault.ended.wait()
            case "watch-gone" if fault.how == "bare":
                await self._send_error(stream, {"kind": "Status", "apiVersion": "v1", "status": "Failure"})
            case "watch-gone":
                await self._send_error(stream, too_old(self.position, self.storage.rv))
            case "watch-end":
                raise _Ended
            case "poison":
                await stream.write(_POISONS[fault.how])
            case "bookmark" if fault.how == "bare":
                await stream.write(_line(b"BOOKMARK", typed(b'"spec":{}}', self.call)))
            case "bookmark" if fault.how == "null":
                await stream.write(_line(b"BOOKMARK", typed(b'"metadata":null}', self.call)))
            case "bookmark":
                self.position = max(self.position, self.storage.rv)
                await self._send_bookmark(stream)

    def _next_line(self) -> bytes:
        """The event that comes next, or that some object is gone: what must not be believed by halves."""
        commits = self.storage.commits(self.call.kind, self.position)
        if commits:
            return _line(b"MODIFIED", typed(commits[0].new.text, self.call))
        versions = self.storage.snapshot(self.call.kind)[0]
        body = versions[0].text if versions else b'"metadata":{"name":"none"}}'
        return _line(b"DELETED", typed(body, self.call))


def _line(kind: bytes, text: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind, text)
