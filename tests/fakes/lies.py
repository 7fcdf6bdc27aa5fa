"""What an upstream that lies, or is broken, says in place of an answer. None of it may ever be believed.

Each lie is made of a query as it arrived, so that everything about it but the lie is right. Where a lie holds an
address it is `FALSE`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

import dns.name
import dns.rdataclass
import dns.rdatatype

from tests.fakes.upstream import Answer, Seen, addressed

TRUE, FALSE = "192.0.2.1", "203.0.113.66"
POINTER = b"\xc0\x0c"  # to the question's name
_FALSE = socket.inet_aton(FALSE)

Lie = Callable[[Seen], bytes]


def record(
    owner: bytes = POINTER, rtype: int = 1, data: bytes = _FALSE, ttl: int = 60, length: int | None = None
) -> bytes:
    """A record of class IN in wire form; `length` is what it says its data has."""
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(data) if length is None else length) + data


def raw(seen: Seen, records: bytes, answers: int = 1, authorities: int = 0, additionals: int = 0) -> bytes:
    """A reply whose sections are these octets."""
    counts = struct.pack("!HHHHH", 0x8180, 1, answers, authorities, additionals)
    return seen.wire[:2] + counts + seen.question + records


def _changed(seen: Seen, **parts: object) -> bytes:
    """A reply that is right but for what it answers, or its header."""
    made = seen.reply(f"{seen.name} 60 IN A {FALSE}")
    question = made.question[0]
    if "name" in parts:
        question.name = dns.name.from_text(str(parts["name"]))
    if "rtype" in parts:
        question.rdtype = dns.rdatatype.from_text(str(parts["rtype"]))
    if "rclass" in parts:
        question.rdclass = dns.rdataclass.from_text(str(parts["rclass"]))
    wire = bytearray(made.to_wire())
    if "id" in parts:
        wire[:2] = ((made.id + 1) & 0xFFFF).to_bytes(2, "big")
    if "flags" in parts:
        wire[2:4] = struct.pack("!H", parts["flags"])
    if "counts" in parts:
        wire[4:12] = struct.pack("!HHHH", *parts["counts"])  # type: ignore[misc]
    return bytes(wire)


def _behind(seen: Seen) -> int:
    """The offset of what stands behind the question."""
    return 12 + len(seen.question)


def _pointer(to: int) -> bytes:
    return struct.pack("!H", 0xC000 | to)


_OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)

LIES: dict[str, Lie] = {
    "another id": lambda seen: _changed(seen, id=1),
    "another name": lambda seen: _changed(seen, name="evil.test."),
    "another type": lambda seen: _changed(seen, rtype="AAAA"),
    "another class": lambda seen: _changed(seen, rclass="CH"),
    "a query": lambda seen: _changed(seen, flags=0x0100),
    "another opcode": lambda seen: _changed(seen, flags=0xA180),
    "no question": lambda seen: _changed(seen, counts=(0, 1, 0, 0)),
    "two questions": lambda seen: _changed(seen, counts=(2, 1, 0, 0)),
    "a false count": lambda seen: _changed(seen, counts=(1, 3, 0, 0)),
    "a huge count": lambda seen: _changed(seen, counts=(1, 65535, 65535, 65535)),
    "half a message": lambda seen: raw(seen, record())[:-3],
    "half a header": lambda seen: raw(seen, record())[:7],
    "eleven octets": lambda seen: raw(seen, record())[:11],
    "nothing": lambda seen: b"",
    "garbage": lambda seen: seen.wire[:2] + bytes(range(200)),
    "a pointer forwards": lambda seen: raw(seen, record(_pointer(_behind(seen) + 16)) + record(), 2),
    "a pointer to itself": lambda seen: raw(seen, record(_pointer(_behind(seen)))),
    "two pointers to each other": lambda seen: raw(
        seen, record(_pointer(_behind(seen) + 16)) + record(_pointer(_behind(seen))), 2
    ),
    "a pointer into the header": lambda seen: raw(seen, record(b"\xc0\x02")),
    "a pointer past the end": lambda seen: raw(seen, record(b"\xff\xff")),
    "a label of unknown kind": lambda seen: raw(seen, record(b"\x41a\0")),
    "a name of 300 octets": lambda seen: raw(seen, record(b"\x3b" + b"a" * 59 + (b"\x3b" + b"a" * 59) * 4 + b"\0")),
    "a name too long by its pointer": lambda seen: raw(
        seen, record((b"\x3f" + b"a" * 63) * 3 + b"\0") + record((b"\x3f" + b"b" * 63) + _pointer(_behind(seen))), 2
    ),
    "an address of five octets": lambda seen: raw(seen, record(data=_FALSE + b"\0")),
    "data past the end": lambda seen: raw(seen, record(length=400)),
    "an alias that ends early": lambda seen: raw(seen, record(rtype=5, data=b"\x04evil")),
    "an alias with octets behind it": lambda seen: raw(seen, record(rtype=5, data=b"\x04evil\0more")),
    "an alias by a pointer forwards": lambda seen: raw(
        seen, record(rtype=5, data=_pointer(_behind(seen) + 14)) + record(), 2
    ),
    "an SOA without its numbers": lambda seen: raw(seen, record(rtype=6, data=b"\0\0"), 0, 1),
    "OPT as answer": lambda seen: raw(seen, _OPT + record(), 2),
    "OPT as authority": lambda seen: raw(seen, record() + _OPT, 1, 1),
    "two OPT records": lambda seen: raw(seen, record() + _OPT * 2, 1, 0, 2),
    "OPT that is not the root's": lambda seen: raw(seen, record() + b"\x01a" + _OPT, 1, 0, 1),
    "an option past the end of OPT": lambda seen: raw(
        seen, record() + _OPT[:-2] + b"\0\4" + b"\0\x0a\0\x09", 1, 0, 1
    ),
}  # fmt: skip


class Script:
    """Answers by the name asked for, whatever its case; the ordinary reply where nothing is said of it."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def say(self, name: str, answer: Answer) -> None:
        """Answer questions for a name so from now on."""
        self._answers[name.lower()] = answer

    def forget(self, name: str) -> None:
        """Tell the truth about a name again."""
        del self._answers[name.lower()]

    def __call__(self, seen: Seen) -> object:
        return self._answers.get(seen.name.lower(), addressed)(seen)


def once(first: Answer, then: Answer = addressed) -> Answer:
    """One answer to the first query, another one to all that follow."""
    answers = [first]

    def answer(seen: Seen) -> object:
        return (answers.pop() if answers else then)(seen)

    return answer  # type: ignore[return-value]


def before_the_truth(lie: Lie, times: int = 1) -> Answer:
    """A lie, some times, and then the answer."""

    def answer(seen: Seen) -> Sequence[bytes]:
        return [*[lie(seen)] * times, *addressed(seen)]  # type: ignore[misc]

    return answer


def nothing_but(lie: Lie, times: int = 20) -> Answer:
    """A lie, some times."""
    return lambda seen: [lie(seen)] * times
