"""Lists and single objects, as kube-apiserver serves them: from a version, in pages, whole or metadata only."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.fakes.apiserver.calls import Call, body_of, list_of, typed
from tests.fakes.apiserver.faults import Faults
from tests.fakes.apiserver.journal import Journal
from tests.fakes.apiserver.statuses import INCONSISTENT, Refused, failure, too_large, too_old
from tests.fakes.apiserver.storage import Key, Storage, Version


@dataclass(frozen=True, slots=True)
class Lister:
    """Answers lists and gets."""

    storage: Storage
    journal: Journal
    faults: Faults
    future_wait_seconds: float

    async def get(self, call: Call) -> bytes:
        """One object."""
        namespace = call.target.namespace
        found = self.storage.get(Key(call.kind, namespace, call.target.name))
        if found is None:
            message = f'{call.resource.name} "{call.target.name}" not found'
            raise Refused(failure(404, message, details={"name": call.target.name, "kind": call.resource.name}))
        return typed(body_of(found, call, self.faults), call)

    async def list_objects(self, call: Call) -> bytes:
        """A list, or a page of one."""
        limit, page = call.number("limit"), 1
        at: int | None
        start: Key | None = None
        if token := call.query.get("continue", ""):
            at, start, page = self._read_token(token)
        else:
            at, limit = await self._version_of(call, limit)
        if self.faults.take("continue-expired", call.kind, "list", page=page):
            raise Refused(failure(410, INCONSISTENT, metadata={"continue": _token(self.storage.rv, start, page)}))
        versions, rv, sequence = self.storage.snapshot(call.kind, at)
        selected = [version for version in versions if call.selects(version.raw)]
        rest = [version for version in selected if start is None or version.key > start]
        if emptied := self.faults.take("emptied-list", call.kind, "list"):
            rest = rest[: emptied.parameters["kept"]]
        return self._page(call, rest, limit, page, rv, sequence)

    def _page(self, call: Call, rest: list[Version], limit: int, page: int, rv: int, sequence: int) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(rv)}
        found = rest[:limit] if limit else rest
        if len(found) < len(rest):
            metadata["continue"] = _token(rv, found[-1].key, page + 1)
            if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
                metadata["remainingItemCount"] = len(rest) - len(found)
        elif not call.metadata_only:
            self.journal.tell_list(call.kind, sequence)
        if self.faults.take("compaction", call.kind, "list", page=page):
            self.storage.put({"kind": "Namespace", "metadata": {"name": "compaction"}})  # what is listed is old now
            self.storage.compact()
        return list_of([body_of(version, call, self.faults) for version in found], metadata, call)

    async def _version_of(self, call: Call, limit: int) -> tuple[int | None, int]:
        """The version to list, None for the newest, and the limit that holds there."""
        text, match = call.resource_version, call.query.get("resourceVersionMatch", "")
        if text and self.faults.take("list-gone", call.kind, "list"):
            raise Refused(too_old(int(text), self.storage.rv))
        if text and (fault := self.faults.take("version-too-large", call.kind, "list")):
            raise Refused(too_large(int(text), self.storage.rv, fault.how == "cause"))
        if text == "0":
            stale = self.faults.take("stale-list", call.kind, "list")
            # What is served from the watch cache is served whole.
            return (self.storage.rv - stale.parameters["behind"] if stale else None), 0
        if not text:
            return None, limit
        wanted = int(text)
        if wanted > self.storage.rv:
            await asyncio.sleep(self.future_wait_seconds)
        if wanted > self.storage.rv:
            raise Refused(too_large(wanted, self.storage.rv))
        if match == "Exact" or (not match and limit):
            if wanted < self.storage.compacted:
                raise Refused(too_old(wanted, self.storage.compacted))
            return wanted, limit
        return None, limit

    def _read_token(self, token: str) -> tuple[int, Key, int]:
        try:
            found = msgspec.json.decode(base64.urlsafe_b64decode(token))
            at, start, page = int(found["rv"]), Key(*found["start"]), int(found["page"])
        except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise Refused(failure(400, f"continue key is not valid: {error}")) from error
        if at < self.storage.compacted:
            raise Refused(failure(410, INCONSISTENT, metadata={"continue": _token(self.storage.rv, start, page)}))
        return at, start, page


def _token(rv: int, start: Key | None, page: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode({"rv": rv, "start": start, "page": page})).decode()
