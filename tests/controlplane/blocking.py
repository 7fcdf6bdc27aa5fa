"""The API of a control plane for tests that are not coroutines: its loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.controlplane.api import Api, KubernetesObject

CALL_SECONDS = 60.0
ORDER = ("CustomResourceDefinition", "Namespace", "Node")  # created before what refers to them

T = TypeVar("T")


class BlockingApi:
    """A session with one API server, as one user; its sockets are opened in the network of whoever made it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._api.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self._api.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def session(self) -> Api:
        """What coroutines given to `call` may use."""
        return self._api

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_seconds: float = CALL_SECONDS) -> T:
        """Run a coroutine of the session to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_seconds)

    def apply(self, *objects: KubernetesObject) -> None:
        """Create objects or make them as given, those that others refer to first and the others all at once."""
        errors = self.try_apply(objects)
        if errors:
            raise next(iter(errors.values()))

    def try_apply(self, objects: Sequence[KubernetesObject]) -> dict[str, Exception]:
        """The same; what was refused, and why, by kind and name."""
        errors: dict[str, Exception] = {}

        async def apply_one(raw: KubernetesObject) -> None:
            try:
                await self._api.apply(raw)
            except Exception as error:  # told to whoever asked
                errors[f"{raw['kind']} {raw['metadata']['name']}"] = error

        async def apply_all() -> None:
            for kind in ORDER:
                await asyncio.gather(*(apply_one(raw) for raw in objects if raw["kind"] == kind))
            await asyncio.gather(*(apply_one(raw) for raw in objects if raw["kind"] not in ORDER))

        self.call(apply_all())
        return errors

    def create(self, objects: Sequence[KubernetesObject], timeout_seconds: float = CALL_SECONDS) -> int:
        """Create many objects, without their status."""
        return self.call(self._api.create(objects), timeout_seconds)

    def patch(self, kind: str, namespace: str, name: str, change: KubernetesObject, subresource: str = "") -> None:
        """Change an object by a JSON merge patch."""
        self.call(self._api.patch(kind, namespace, name, change, subresource))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object at once."""
        self.call(self._api.delete(kind, namespace, name))

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return self.call(self._api.get(kind, namespace, name))

    def list_objects(self, kind: str, namespace: str = "", **query: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return self.call(self._api.list_objects(kind, namespace, **query))

    def run_pod(self, namespace: str, name: str, address: str, node: str, is_ready: bool = True) -> None:
        """Do for a Pod what the scheduler and a kubelet would do."""
        self.call(self._api.run_pod(namespace, name, address, node, is_ready))
