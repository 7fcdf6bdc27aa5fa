"""What an API server keeps, in etcd: read and changed behind its back, over etcd's JSON gateway."""

from __future__ import annotations

import base64
import json
import urllib.request
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

ANSWER_SECONDS = 30.0
MAX_OPERATIONS = 128  # of one transaction, etcd's default
MAX_OCTETS = 1 << 20  # of one transaction; etcd takes half as much again
CREATED = "2025-01-01T00:00:00Z"
_FOLDERS = {"Namespace": "namespaces", "Service": "services/specs", "EndpointSlice": "endpointslices", "Pod": "pods"}

Operation = dict[str, Any]


class Etcd:
    """The etcd of one control plane, on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port

    def compact(self) -> int:
        """Forget every version but the newest; returns it."""
        found = self._ask("/v3/kv/range", {"key": "AA=="})
        revision = int(found["header"]["revision"])
        self._ask("/v3/kv/compaction", {"revision": revision, "physical": True})
        return revision

    def forget(self, prefixes: Iterable[str], but: Collection[str]) -> int:
        """Delete what is below /registry under these prefixes, but for some keys; returns how many."""
        kept = {_base64(f"/registry/{name}") for name in but}
        keys = [key for prefix in prefixes for key in self._keys(f"/registry/{prefix}") if key not in kept]
        self._commit({"requestDeleteRange": {"key": key}} for key in keys)
        return len(keys)

    def store(self, objects: Iterable[Mapping[str, Any]]) -> int:
        """Put whole objects; returns how many. An API server reads JSON as well as what it writes."""
        return self._commit(_put(raw) for raw in objects)

    def _keys(self, prefix: str) -> list[str]:
        last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self._ask("/v3/kv/range", {"key": _base64(prefix), "range_end": _base64(last), "keys_only": True})
        return [entry["key"] for entry in found.get("kvs", ())]

    def _commit(self, operations: Iterable[Operation]) -> int:
        count = 0
        for part in _batches(operations):
            self._ask("/v3/kv/txn", {"success": part})
            count += len(part)
        return count

    def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=ANSWER_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def _put(raw: Mapping[str, Any]) -> Operation:
    metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": CREATED, **raw["metadata"]}
    path = "/".join(filter(None, (_FOLDERS[raw["kind"]], metadata.get("namespace"), metadata["name"])))
    text = json.dumps({**raw, "metadata": metadata}, separators=(",", ":"))
    return {"requestPut": {"key": _base64(f"/registry/{path}"), "value": _base64(text)}}


def _batches(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    batch: list[Operation] = []
    octets = 0
    for operation in operations:
        size = len(operation.get("requestPut", {}).get("value", ""))
        if batch and (len(batch) == MAX_OPERATIONS or octets + size > MAX_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(operation)
        octets += size
    if batch:
        yield batch


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
