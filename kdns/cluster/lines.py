"""Lines out of a stream of octets that may be cut anywhere."""

from __future__ import annotations

MAX_LINE_BYTES = 4 * 2**20  # an object has 1.5 MiB in etcd at most, and its JSON not much more than twice that


class LineSplitter:
    """Joins pieces of a stream and cuts them into whole lines; what follows the last line end waits for more.

    A line beyond the limit is left out, and counted: the next connection would meet it again.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.oversize = 0
        self._limit = max_line_bytes
        self._pieces: list[bytes] = []  # of the line that has no end yet
        self._size = 0
        self._is_skipping = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines this piece completes, without their ends; empty ones are left out."""
        if b"\n" not in piece:
            self._keep(piece)
            return []
        first, *lines = piece.split(b"\n")
        rest = lines.pop()
        self._keep(first)
        if not self._is_skipping:
            lines.insert(0, b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0])
        self._pieces, self._size, self._is_skipping = [], 0, False
        self._keep(rest)
        return [line for line in lines if self._fits(line)]

    def _keep(self, piece: bytes) -> None:
        if not piece or self._is_skipping:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._limit:
            self._pieces, self._is_skipping = [], True
            self.oversize += 1

    def _fits(self, line: bytes) -> bool:
        if len(line) > self._limit:
            self.oversize += 1
            return False
        return bool(line) and line != b"\r"
