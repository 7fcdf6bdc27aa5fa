"""A list of nothing but metadata, taken apart while it comes in: large clusters have dozens of megabytes of it.

A server writes the items of a list all alike, so what one begins with, behind the end of another, is where they are
cut; inside of a string there are no bare quotation marks. Each piece must parse for itself, so a wrong cut is an error
and no wrong item.

    {"kind":"PartialObjectMetadataList",...,"metadata":{"resourceVersion":"7"},"items":[{"metadata":{...}},{"metadata":
                                                                        its beginning^            the cut^^^^^^^^^^^^^^
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from kdns.cluster import listing
from kdns.cluster.api_errors import ApiError, ErrorKind

ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MAX_ITEM_BYTES = 2**22  # 4 MiB: an object has 1.5 MiB at most, and here it is without its spec

_WHOLE = msgspec.json.Decoder(msgspec.Raw)
_ITEMS = re.compile(rb'"items":\s*\[\s*')
_BEGINNING = re.compile(rb'\{\s*"[^"\\]*":\s*(?:"[^"\\]*"|\{)')


class MetadataList:
    """Gives each item's JSON to `take`. Raises ApiError for what is no list."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._head = b""
        self._beginning = b""
        self._waiting = b""

    def feed(self, piece: bytes) -> None:
        """Take in what came."""
        self._waiting += piece
        if not self._head:
            found = _ITEMS.search(self._waiting)
            if found is not None:
                self._head, self._waiting = self._waiting[: found.end()], self._waiting[found.end() :]
        if self._head and not self._beginning and (begun := _BEGINNING.match(self._waiting)):
            self._beginning = begun[0]
        if self._beginning:
            # Between two items there may be white space, in a server's own way: none, where it is Go's.
            *whole, self._waiting = self._waiting.split(b"}," + self._beginning)
            if whole:
                self._waiting = self._beginning + self._waiting
                self._give(whole[0] + b"}")
                for item in whole[1:]:
                    self._give(self._beginning + item + b"}")
        if len(self._waiting) > MAX_ITEM_BYTES:
            raise ApiError(ErrorKind.PROTOCOL, f"met more than {MAX_ITEM_BYTES} bytes without the end of an item")

    def finish(self) -> str:
        """The version of the list, all of which has come."""
        if not self._head:
            if b'"items"' not in self._waiting:  # null, where Go has a slice that is nil
                raise ApiError(ErrorKind.PROTOCOL, "a list without items")
            return listing.version_of(self._waiting)
        rest = self._waiting.rstrip()
        if not rest.endswith(b"]}"):
            raise ApiError(ErrorKind.PROTOCOL, "a list that does not come to its end")
        last = rest[:-2].rstrip()
        if last:
            self._give(last)
        return listing.version_of(self._head + b"]}")

    def _give(self, item: bytes) -> None:
        try:
            _WHOLE.decode(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(ErrorKind.PROTOCOL, f"an item of a list that does not parse: {error}") from error
        self._take(item)
