"""The API of a control plane, for tests: apply, change, delete, and wait for what comes of it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from tests.controlplane.kinds import COLLECTIONS, DEFAULT_NAMESPACE, path_of, running_pod

FIELD_MANAGER = "kdns-tests"
POLL_SECONDS = 0.02
WAIT_SECONDS = 20.0
MAX_IN_FLIGHT = 64  # requests of one bulk creation; kube-apiserver takes 200 changes at once
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_HAS_STATUS = frozenset({"Pod", "Service", "Node"})

KubernetesObject = Mapping[str, Any]
T = TypeVar("T")


class ApiError(Exception):
    """A request was refused; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """A session with one API server, as one user."""

    def __init__(self, url: str, ca_file: Path, token: str) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=ca_file)
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=MAX_IN_FLIGHT)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def apply(self, *objects: KubernetesObject) -> list[dict[str, Any]]:
        """Create objects or make them as they are given, their status too; returns them as they are stored."""
        stored = []
        for raw in objects:
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            wanted = {field: value for field, value in raw.items() if field != "status"}
            found = await self.request("PATCH", path_of(raw), wanted, _APPLY, **query)
            if raw.get("status") and raw["kind"] in _HAS_STATUS:
                metadata = {field: raw["metadata"].get(field) for field in ("name", "namespace")}
                status = {**raw, "metadata": metadata}
                status.pop("spec", None)
                found = await self.request("PATCH", path_of(raw, "status"), status, _APPLY, **query)
            stored.append(found)
        return stored

    async def create(self, objects: Iterable[KubernetesObject]) -> int:
        """Create many objects, without their status; returns how many."""
        waiting = iter(objects)

        async def create_some() -> int:
            count = 0
            for raw in waiting:
                path = COLLECTIONS[raw["kind"]].path(raw["metadata"].get("namespace") or DEFAULT_NAMESPACE)
                await self.request("POST", path, raw)
                count += 1
            return count

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(create_some()) for _ in range(MAX_IN_FLIGHT)]
        return sum(task.result() for task in tasks)

    async def patch(
        self, kind: str, namespace: str, name: str, change: KubernetesObject, subresource: str = ""
    ) -> dict[str, Any]:
        """Change an object by a JSON merge patch."""
        path = COLLECTIONS[kind].path(namespace, name, subresource)
        return await self.request("PATCH", path, change, _MERGE)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object at once, without the grace a kubelet would need."""
        await self.request("DELETE", COLLECTIONS[kind].path(namespace, name), gracePeriodSeconds="0")

    async def run_pod(self, namespace: str, name: str, address: str, node: str, is_ready: bool = True) -> None:
        """Do for a Pod that a controller made what the scheduler and a kubelet would do."""
        pod = COLLECTIONS["Pod"].path(namespace, name)
        if not (await self.request("GET", pod))["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self.request("POST", f"{pod}/binding", binding)
        status = running_pod(namespace, name, address, {}, node, is_ready)["status"]
        await self.patch("Pod", namespace, name, {"status": status}, "status")

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return await self.request("GET", COLLECTIONS[kind].path(namespace, name))

    async def list_objects(self, kind: str, namespace: str = "", **query: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        found: list[dict[str, Any]] = (await self.request("GET", COLLECTIONS[kind].path(namespace), **query))["items"]
        return found

    async def watch_for(self, kind: str, seconds: int, **query: str) -> list[dict[str, Any]]:
        """The events of a watch that ends after some seconds, or before that by itself."""
        parameters = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        async with self._session.get(self._url + COLLECTIONS[kind].path(), params=parameters) as answer:
            return [json.loads(line) async for line in answer.content]

    async def define(self, definition: KubernetesObject) -> None:
        """Create a CustomResourceDefinition, and wait until its objects are served."""
        await self.apply(definition)
        name = definition["metadata"]["name"]

        def is_established(found: dict[str, Any]) -> bool:
            conditions = (found.get("status") or {}).get("conditions") or ()
            return any(part["type"] == "Established" and part["status"] == "True" for part in conditions)

        await wait(lambda: self.get("CustomResourceDefinition", "", name), is_established, f"{name} is established")

    async def issue_token(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount, void 10 s (which is how long it is cached) after the account is deleted."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        path = COLLECTIONS["ServiceAccount"].path(namespace, account, "token")
        return str((await self.request("POST", path, body))["status"]["token"])

    async def wait_slices(
        self,
        namespace: str,
        service: str,
        condition: Callable[[dict[str, bool]], bool],
        what: str,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> dict[str, bool]:
        """Wait until the endpoints of a Service, addresses and whether they are ready, are as `condition` says.

        What else there is to wait for: `wait`.
        """
        selector = f"kubernetes.io/service-name={service}"

        async def look() -> dict[str, bool]:
            return endpoints_of(await self.list_objects("EndpointSlice", namespace, labelSelector=selector))

        return await wait(look, condition, what, timeout_seconds)

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> dict[str, Any]:
        """One request; returns the object of its answer. Raises ApiError where it is refused."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._session.request(method, self._url + path, params=query, data=data, headers=headers) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                raise ApiError(answer.status, found.get("message", ""))
            return found


async def wait(
    look: Callable[[], Awaitable[T]], condition: Callable[[T], bool], what: str, timeout_seconds: float = WAIT_SECONDS
) -> T:
    """Look until what is found is as `condition` says, and return it; fail with `what` was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = await look()
        if condition(found):
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"after {timeout_seconds:g} s, still not: {what}; there is {found}")
        await asyncio.sleep(POLL_SECONDS)


def endpoints_of(slices: Iterable[KubernetesObject]) -> dict[str, bool]:
    """The addresses in slices, and whether each is ready."""
    found = {}
    for part in slices:
        for endpoint in part.get("endpoints") or ():
            is_ready = (endpoint.get("conditions") or {}).get("ready") is not False
            found.update(dict.fromkeys(endpoint["addresses"], is_ready))
    return found
