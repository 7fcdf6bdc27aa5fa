"""The text of a manifest file, YAML or JSON, to plain values: dicts, lists, strings, integers, booleans and None.

YAML is read from its events and not with yaml.load, for three reasons. PyYAML builds values recursively: in the
compiled loader, brackets nested some ten thousand deep end the process. Its YAML 1.1 makes a boolean of `on` and `no`,
a number of `1.10` and `0123`, a time of `12:30:00`, and the text is lost; here what is neither null, true, false nor a
plain integer is text, so that labels read as they were meant. And reading events is faster.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec
import yaml

from kdns.errors import ManifestError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: the same events, ten times slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_NESTING = 200  # levels; an OpenAPI schema in a CustomResourceDefinition has some forty

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_MERGE = "<<"
_NO_KEY = object()


class Document(NamedTuple):
    """One document of a file, and its number in it, counted from 1. Empty ones count, and are left out."""

    number: int
    value: Any


def read_documents(text: bytes, is_json: bool = False) -> list[Document]:
    """The documents of a file. Raises ManifestError, with document, line and column, where one does not parse."""
    if text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or is_json:
        try:
            value = _read_list(text) or msgspec.json.decode(text)
            return [] if value is None else [Document(1, value)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # several values one after the other, YAML in flow style, or broken: whoever reads it next says
        try:
            return _read_json(text)
        except ManifestError:
            if is_json:
                raise
    return _read_yaml(text)


class _List(msgspec.Struct):
    """A list of objects whose items are still text."""

    kind: str
    items: list[msgspec.Raw]
    api_version: str | None = msgspec.field(name="apiVersion", default=None)


def _read_list(text: bytes) -> dict[str, Any] | None:
    """A Kubernetes list with its items as `msgspec.Raw`, or None where the text is something else.

    Read one by one, the items of a large cluster need no memory beside the text; read at once they leave the heap as
    large as they were all together, long after they are gone.
    """
    try:
        found = msgspec.json.decode(text, type=_List)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return {"kind": found.kind, "apiVersion": found.api_version, "items": found.items}


def read_item(item: Any) -> Any:
    """An item of a list, parsed where it was still text. Raises ManifestError."""
    if not isinstance(item, msgspec.Raw):
        return item
    try:
        return msgspec.json.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from error


def _read_json(text: bytes) -> list[Document]:
    """JSON values one after the other, as `jq` and `kubectl -o json` in a loop print them."""
    documents: list[Document] = []
    decoder = json.JSONDecoder()
    try:
        whole = text.decode("utf-8-sig")
        at = _skip_blanks(whole, 0)
        while at < len(whole):
            value, at = decoder.raw_decode(whole, at)
            documents.append(Document(len(documents) + 1, value))
            at = _skip_blanks(whole, at)
    except json.JSONDecodeError as error:
        where = f"document {len(documents) + 1}, line {error.lineno}, column {error.colno}"
        raise ManifestError(f"{where}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _too_deep(f"document {len(documents) + 1}") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise ManifestError(f"document {len(documents) + 1}: not JSON: {error}") from error
    return [document for document in documents if document.value is not None]


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _read_yaml(text: bytes) -> list[Document]:
    documents: list[Document] = []
    count = 0
    builder = _Builder()
    try:
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                builder = _Builder()
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder.value is not None:
                    documents.append(Document(count, builder.value))
            else:
                builder.feed(event)
    except yaml.YAMLError as error:
        # The parser is ahead of the builder by at most the document that it could not begin.
        raise ManifestError(f"document {max(count, 1)}{_position(error)}: not YAML: {_reason(error)}") from error
    except ManifestError as error:
        raise ManifestError(f"document {count}{error}") from error
    return documents


class _Builder:
    """Builds the value of one document from its events, with a stack of its own."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[_Collection] = []
        self._anchors: dict[str, Any] = {}

    def feed(self, event: yaml.Event) -> None:
        """Take the next event. Raises ManifestError for what JSON has no counterpart for."""
        match event:
            case yaml.ScalarEvent():
                is_key = bool(self._open) and self._open[-1].awaits_key
                self._add(event.value if is_key else _scalar(event), event.anchor, event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(self._open) == MAX_NESTING:
                    raise _too_deep(_line(event))
                self._open.append(_Collection(event))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                collection = self._open.pop()
                # An anchor is known once its value is whole: nothing can hold itself.
                self._add(collection.value, collection.start.anchor, collection.start)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise ManifestError(f"{_line(event)}: met alias *{event.anchor}, expected its anchor before it")
                self._add(self._anchors[event.anchor], None, event)

    def _add(self, value: Any, anchor: str | None, event: yaml.Event) -> None:
        if anchor:
            self._anchors[anchor] = value
        if self._open:
            self._open[-1].add(value, event)
        else:
            self.value = value


class _Collection:
    """A mapping or a sequence being filled."""

    def __init__(self, start: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self.start = start
        self.is_mapping = isinstance(start, yaml.MappingStartEvent)
        self.value: Any = {} if self.is_mapping else []
        self._key: Any = _NO_KEY

    @property
    def awaits_key(self) -> bool:
        return self.is_mapping and self._key is _NO_KEY

    def add(self, value: Any, event: yaml.Event) -> None:
        if not self.is_mapping:
            self.value.append(value)
        elif self._key is _NO_KEY:
            if not isinstance(value, str):
                raise ManifestError(f"{_line(event)}: met {type(value).__name__} as a key, expected text")
            self._key = value
        elif self._key == _MERGE:
            self._merge(value, event)
            self._key = _NO_KEY
        else:
            self.value[self._key] = value
            self._key = _NO_KEY

    def _merge(self, value: Any, event: yaml.Event) -> None:
        """Take over the keys of other mappings that this one does not have so far; later ones replace them."""
        for other in value if isinstance(value, list) else [value]:
            if not isinstance(other, dict):
                raise ManifestError(f"{_line(event)}: met {type(other).__name__} after <<, expected a mapping")
            for key in other:
                self.value.setdefault(key, other[key])


def _scalar(event: yaml.ScalarEvent) -> str | int | bool | None:
    """The JSON scalar an unquoted text is, or the text."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


def _line(event: yaml.Event) -> str:
    return f", line {event.start_mark.line + 1}" if event.start_mark else ""


def _position(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _reason(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(problem).split())


def _too_deep(where: str) -> ManifestError:
    return ManifestError(f"{where}: met more than {MAX_NESTING} levels of nesting, expected fewer")
