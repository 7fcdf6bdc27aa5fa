"""How long messages are with every name written out: what logs and metrics call their size, as CoreDNS does."""

from __future__ import annotations

from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, Body
from kdns.dns.names import MAX_NAME
from kdns.dns.query import Query

OPT_SIZE = 11  # octets of an OPT record without options (RFC 6891, 6.1.2)

# Types whose data holds names that may be compressed: (octets before them, how many names).
_NAMES_IN = {
    RRType.NS: (0, 1),
    RRType.CNAME: (0, 1),
    RRType.PTR: (0, 1),
    RRType.DNAME: (0, 1),
    RRType.SOA: (0, 2),
    RRType.MX: (2, 1),
    RRType.SRV: (6, 1),
}


def query_length(query: Query) -> int:
    """The octets of a query: header, question, and the OPT record with its options."""
    length = len(query.head)
    if query.edns is not None:
        length += OPT_SIZE + sum(4 + len(data) for _, data in query.edns.options)
    return length


def reply_length(head: bytes, body: Body) -> int:
    """The octets of `head` (header and question) and of a well-formed body behind it, no name compressed."""
    octets, length = body.octets, len(head)
    if not octets:
        return length
    question_size = len(head) - HEADER_SIZE - 4
    count = body.answers + body.authorities + body.additionals
    if body.record_length and octets[body.rotate_from] == 0xC0 and octets[body.rotate_from + 1] == HEADER_SIZE:
        # A run of addresses of the question's name: one stands for all.
        alike = (len(octets) - body.rotate_from) // body.record_length
        length += alike * (question_size - 2 + body.record_length)
        count -= alike
    known: dict[int, int] = {}  # names by where they stand: most records share theirs with others
    message = head + octets
    at = len(head)
    for _ in range(count):
        if message[at] == 0xC0 and message[at + 1] == HEADER_SIZE:
            length += question_size + 10
            at += 2
        else:
            size, at = _name_length(message, at, known)
            length += size + 10
        data_size = message[at + 8] << 8 | message[at + 9]
        layout = _NAMES_IN.get(message[at] << 8 | message[at + 1])  # type: ignore[call-overload]
        at += 10
        end = at + data_size
        if layout is None:
            length += data_size
        else:
            skipped, named = layout
            at += skipped
            length += skipped
            for _ in range(named):
                size, at = _name_length(message, at, known)
                length += size
            length += end - at
        at = end
    return length


def _name_length(message: bytes, at: int, known: dict[int, int]) -> tuple[int, int]:
    """(octets of the name at `at` written out, the offset behind it)."""
    start, size, after = at, 1, 0
    for _ in range(MAX_NAME):  # labels and pointers: whoever chains more of them has no name
        label = message[at]
        if label >= 0xC0:
            after = after or at + 2
            at = (label & 0x3F) << 8 | message[at + 1]
            if (rest := known.get(at)) is not None:
                size += rest - 1
                break
            continue
        if not label:
            break
        size += 1 + label
        at += 1 + label
    known[start] = size
    return size, after or at + 1
