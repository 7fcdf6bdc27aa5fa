"""Lists by pages: the whole of a resource, where the server cannot stream it.

The resource version is left open: servers answer that from their watch cache, consistently, and older ones from etcd
by pages. A list is published whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.resources import Resource
from kdns.cluster.watching import Key, identify

MAX_PAGE_OBJECTS = 500  # as client-go
FIRST_PAGE_OBJECTS = 100  # until it is known how large the objects are
PAGE_BYTES = 4 * 2**20  # what a page should have at most: it is in memory as a whole
MAX_PAGES = 100_000  # a server that never ends its list does not hold us for ever


class Getter(Protocol):
    """The part of an API client that gets one reply."""

    async def get(self, path: str, parameters: dict[str, str], timeout_seconds: float) -> bytes:
        """The body of a JSON reply. Raises ApiError."""


class _ListMetadata(msgspec.Struct, gc=False, rename="camel"):
    resource_version: str | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Page(msgspec.Struct, gc=False):
    """A page; its items are views of the body, taken apart one by one."""

    kind: str | None = None
    metadata: _ListMetadata | None = None
    items: list[msgspec.Raw] | None = None


class _Head(msgspec.Struct, gc=False):
    kind: str | None = None
    metadata: _ListMetadata | None = None


_PAGE = msgspec.json.Decoder(_Page)
_HEAD = msgspec.json.Decoder(_Head)


async def list_all(client: Getter, resource: Resource, take: Callable[[bytes], None], timeout_seconds: float) -> str:
    """Give every object to `take`, and return the version of the list. Raises ApiError: then nothing was complete.

    `take` may get objects twice, from a list that had to be started again; the later one counts.
    """
    limit, token = FIRST_PAGE_OBJECTS, ""
    for _ in range(MAX_PAGES):
        parameters = resource.selection | {"limit": str(limit)}
        if token:
            parameters["continue"] = token
        try:
            body = await client.get(resource.path, parameters, timeout_seconds)
        except ApiError as error:
            if error.kind is not ErrorKind.GONE or not token:
                raise
            # The list became too old while it was read: once more in one piece, which cannot.
            page = _decode(await client.get(resource.path, resource.selection, timeout_seconds))
            return _take_items(page, take)
        page = _decode(body)
        version = _take_items(page, take)
        token = (page.metadata.continue_ if page.metadata else None) or ""
        if not token:
            return version
        object_bytes = len(body) / max(1, len(page.items or ()))
        limit = max(1, min(MAX_PAGE_OBJECTS, int(PAGE_BYTES / object_bytes)))
    raise ApiError(ErrorKind.PROTOCOL, f"the list of {resource.full_name} did not end after {MAX_PAGES} pages")


async def current_version(client: Getter, resource: Resource, timeout_seconds: float) -> str:
    """The version the server is at: that of a list of one object. Raises ApiError."""
    return version_of(await client.get(resource.path, resource.selection | {"limit": "1"}, timeout_seconds))


async def get_one(client: Getter, resource: Resource, key: Key, timeout_seconds: float) -> tuple[str, bytes] | None:
    """The stamp and the text of an object, None where there is none. Raises ApiError.

    It is listed, by its name: so no more has to be permitted than is needed anyway.
    """
    namespace, name = key
    parameters = dict(resource.selection)
    fields = [*filter(None, [parameters.get("fieldSelector")]), f"metadata.name={name}"]
    parameters["fieldSelector"] = ",".join(fields)
    page = _decode(await client.get(resource.path_in(namespace), parameters, timeout_seconds))
    _version(page)
    for item in page.items or ():
        found = identify(resource.kind, bytes(item))
        if found.key == key:
            return found.stamp, bytes(item)
    return None


def version_of(body: bytes) -> str:
    """The version of a list, its items disregarded. Raises ApiError."""
    try:
        return _version(_HEAD.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(ErrorKind.PROTOCOL, f"a list that does not parse: {error}") from error


def is_older(version: str, than: str) -> bool:
    """Whether a version is certainly of an earlier state. Versions need not be numbers, but all that are compare."""
    if not (version.isdecimal() and than.isdecimal()):
        return False
    return (len(version.lstrip("0")), version) < (len(than.lstrip("0")), than)


def _decode(body: bytes) -> _Page:
    try:
        return _PAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(ErrorKind.PROTOCOL, f"a list that does not parse: {error}") from error


def _take_items(page: _Page, take: Callable[[bytes], None]) -> str:
    version = _version(page)
    for item in page.items or ():
        take(bytes(item))
    return version


def _version(page: _Page | _Head) -> str:
    """The version of a list; a Table, a Status or anything else that is no list is an error."""
    version = page.metadata.resource_version if page.metadata else None
    if not (page.kind or "").endswith("List") or not version:
        raise ApiError(ErrorKind.PROTOCOL, f"met {page.kind or 'an object without a kind'}, expected a list")
    return version
