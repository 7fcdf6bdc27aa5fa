"""The lines of a watch: what each says, before its object is looked at."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

import msgspec

from kdns.cluster.api_errors import ApiError, ErrorKind, error_of_event
from kdns.cluster.objects import Kind
from kdns.cluster.raw import DEFAULT_NAMESPACE
from kdns.cluster.shapes import RawObject, shape_of
from kdns.cluster.view import Needs

INITIAL_EVENTS_END = "k8s.io/initial-events-end"  # annotation of the bookmark that ends the list in a watch

Key = tuple[str, str]  # namespace, name

_new = tuple.__new__  # makes a NamedTuple at half the cost


class Change(Enum):
    """What a line of a watch tells."""

    PUT = "put"  # ADDED and MODIFIED: which of them it is depends on who asks
    DELETE = "delete"
    BOOKMARK = "bookmark"
    INITIAL_END = "initial-end"
    IGNORED = "ignored"  # a type of a later API


UID_CHARACTERS = 8  # of an object's UID that are remembered: enough to tell two of the same name and version apart


class Identity(NamedTuple):
    """What an object is called, and its version; either may be missing from a damaged one.

    `stamp` tells states of the object apart: versions may be given twice, when a server goes back in time.
    """

    key: Key | None
    version: str
    stamp: str = ""


class WatchLine(NamedTuple):
    """One line. `text` is the object's JSON; `version` that of the object, empty where it has none.

    Where the object is decoded along, that is its `shape`, and `text` is the line.
    """

    change: Change
    text: bytes
    key: Key | None = None
    version: str = ""
    stamp: str = ""  # see Identity
    shape: RawObject | None = None


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    uid: str | None = None


class _Object(msgspec.Struct, gc=False):
    kind: str | None = None
    metadata: _Metadata | None = None


class _AnyMetadata(msgspec.Struct, gc=False, rename="camel"):
    """Metadata with anything in its fields."""

    name: object = None
    namespace: object = None
    resource_version: object = None
    uid: object = None
    annotations: object = None


class _AnyObject(msgspec.Struct, gc=False):
    kind: object = None
    metadata: object = None


_CHANGES = {"ADDED": Change.PUT, "MODIFIED": Change.PUT, "DELETED": Change.DELETE, "BOOKMARK": Change.BOOKMARK}
_PUTS = {"ADDED": Change.PUT, "MODIFIED": Change.PUT}
_LINE = msgspec.json.Decoder(_Line)
_OBJECT = msgspec.json.Decoder(_Object)
_ANY_OBJECT = msgspec.json.Decoder(_AnyObject)


def read_line(kind: Kind, line: bytes, needs: Needs | None = None) -> WatchLine:
    """What a line tells. Raises ApiError for an ERROR event, and for what is no line of a watch on this kind.

    Whoever will want the object anyway says what its views need of it: then it is decoded along, if that is easy.
    """
    if needs is not None and (found := _read_whole(kind, line, needs)) is not None:
        return found
    try:
        decoded = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(ErrorKind.PROTOCOL, f"a line of the watch does not parse: {error}") from error
    text = bytes(decoded.object)
    # Before anything else: a Status is no object of the kind that is watched.
    if decoded.type == "ERROR":
        raise error_of_event(text)
    change = _CHANGES.get(decoded.type, Change.IGNORED)
    if change is Change.IGNORED:
        return WatchLine(change, text)
    if change is Change.BOOKMARK:
        return _bookmark(text)
    found_kind, identity = _identify(kind, text)
    if found_kind is not None and found_kind != kind.value:
        raise ApiError(ErrorKind.PROTOCOL, f"the watch sent a {found_kind}, expected a {kind.value}")
    return WatchLine(change, text, *identity)


def _read_whole(kind: Kind, line: bytes, needs: Needs) -> WatchLine | None:
    """What a line tells that is nothing special, in one pass; None for any other."""
    try:
        decoded = _whole_decoder(kind, needs).decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    change = _PUTS.get(decoded.type)
    shape = decoded.object
    metadata = shape.metadata
    if change is None or shape.kind != kind.value or metadata is None:
        return None
    version, uid = metadata.resource_version or "", metadata.uid or ""
    if not isinstance(version, str) or not isinstance(uid, str):
        return None
    key = _key(kind, metadata.namespace, metadata.name)
    return _new(WatchLine, (change, line, key, version, _stamp(version, uid), shape))


@lru_cache(maxsize=64)
def _whole_decoder(kind: Kind, needs: Needs) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, type]] = [("type", str), ("object", shape_of(kind, needs))]
    return msgspec.json.Decoder(msgspec.defstruct("_WholeLine", fields, gc=False))


def identify(kind: Kind, text: bytes) -> Identity:
    """What an object in a list is called, and its version."""
    return _identify(kind, text)[1]


def _identify(kind: Kind, text: bytes) -> tuple[str | None, Identity]:
    try:
        found = _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _identify_damaged(kind, text)
    metadata = found.metadata or _Metadata()
    key, version = _key(kind, metadata.namespace, metadata.name), metadata.resource_version or ""
    return found.kind, Identity(key, version, _stamp(version, metadata.uid))


def _identify_damaged(kind: Kind, text: bytes) -> tuple[str | None, Identity]:
    """As much as can be told of an object with wrong types in it."""
    try:
        found = _ANY_OBJECT.decode(text)
        metadata = msgspec.convert(found.metadata, _AnyMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, Identity(None, "")
    version = metadata.resource_version if isinstance(metadata.resource_version, str) else ""
    name, namespace = metadata.name, metadata.namespace
    if not isinstance(name, str) or not (namespace is None or isinstance(namespace, str)):
        return None, Identity(None, version)
    stamp = _stamp(version, metadata.uid if isinstance(metadata.uid, str) else None)
    return found.kind if isinstance(found.kind, str) else None, Identity(_key(kind, namespace, name), version, stamp)


def _stamp(version: str, uid: str | None) -> str:
    return f"{version}/{uid[:UID_CHARACTERS]}" if version and uid else version


def _key(kind: Kind, namespace: str | None, name: str | None) -> Key | None:
    if not name:
        return None
    # Half of the keys' memory would be copies of the same few namespaces.
    return ("" if kind is Kind.NAMESPACE else intern(namespace or DEFAULT_NAMESPACE), name)


def _bookmark(text: bytes) -> WatchLine:
    """A bookmark, whatever its object is of; one without a version is no use and no harm."""
    try:
        metadata = msgspec.convert(_ANY_OBJECT.decode(text).metadata, _AnyMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return WatchLine(Change.IGNORED, text)
    version = metadata.resource_version
    if not isinstance(version, str) or not version:
        return WatchLine(Change.IGNORED, text)
    annotations = metadata.annotations
    is_end = isinstance(annotations, dict) and annotations.get(INITIAL_EVENTS_END) == "true"
    return WatchLine(Change.INITIAL_END if is_end else Change.BOOKMARK, text, None, version)
