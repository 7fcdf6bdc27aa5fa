"""Reads what an upstream server sent, and believes nothing it has not walked.

    +--------+----------+---------+-----------+------------+-----+
    | header | question | answers | authority | additional | OPT |
    +--------+----------+---------+-----------+------------+-----+
             ^ must be ours        ^ every record ends inside the message, every name in it is one

Sections stay the octets they are: behind a question of the same length every compression pointer is still right. Only
the OPT record is taken out; where records follow it, they move up and the pointers that lead behind it are corrected.

The work is linear in the message's length: where a name was walked is remembered, label by label, and pointers lead
backwards only.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kdns.dns.codes import HOP_BY_HOP, EdnsOption, Rcode, RRType
from kdns.dns.compression import HEADER_SIZE, Body
from kdns.dns.names import MAX_LABEL, MAX_NAME
from kdns.dns.reply import Reply
from kdns.errors import FormatError

MIN_RECORD = 11  # octets: the root as owner, type, class, TTL, length (RFC 1035, 4.1.3)

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_POINTER = 0xC0
_QR_AND_OPCODE = 0xF800  # of the header's flags: a response to an opcode QUERY is 0x8000 of these
_RESPONSE = 0x8000

# Record data with names that may be compressed (RFC 3597, 4): octets before the names, names, octets behind them.
_NAMES_IN = {
    RRType.NS: (0, 1, 0),
    3: (0, 1, 0),  # MD
    4: (0, 1, 0),  # MF
    RRType.CNAME: (0, 1, 0),
    RRType.SOA: (0, 2, 20),
    7: (0, 1, 0),  # MB
    8: (0, 1, 0),  # MG
    9: (0, 1, 0),  # MR
    RRType.PTR: (0, 1, 0),
    14: (0, 2, 0),  # MINFO
    RRType.MX: (2, 1, 0),
    17: (0, 2, 0),  # RP
    18: (2, 1, 0),  # AFSDB
    21: (2, 1, 0),  # RT
    26: (2, 2, 0),  # PX
    RRType.SRV: (6, 1, 0),
    36: (2, 1, 0),  # KX
    RRType.DNAME: (0, 1, 0),
}
_ADDRESS_SIZES = {RRType.A: 4, RRType.AAAA: 16}
_ROTATED = (b"\0\x01", b"\0\x1c")  # the types of addresses, as they stand in a record


def read_reply(message: bytes, message_id: int, question: bytes, writer: str = "") -> Reply:
    """The reply a message holds, if it answers `question` (name, type and class) asked with this id.

    Raises FormatError where it answers another one, or is no message.
    """
    if len(message) < HEADER_SIZE:
        raise FormatError(f"{len(message)} octets, a header has {HEADER_SIZE}")
    got_id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(message)
    if got_id != message_id:
        raise FormatError(f"id {got_id}, asked with {message_id}")
    if flags & _QR_AND_OPCODE != _RESPONSE:
        raise FormatError("not a response to a query")
    start = HEADER_SIZE + len(question)
    if questions != 1 or not _is_same_question(message[HEADER_SIZE:start], question):
        raise FormatError("another question")
    if (answers + authorities + additionals) * MIN_RECORD > len(message) - start:
        raise FormatError("more records announced than the message has room for")
    try:
        body, opt = _walk(message, start, answers, authorities, additionals)
    except (IndexError, struct.error) as error:
        raise FormatError("cut short") from error
    rcode = flags & 15
    extended_error: tuple[int, str] | None = None
    options: tuple[tuple[int, bytes], ...] = ()
    if opt is not None:
        rcode |= opt.extended_rcode << 4
        extended_error, options = opt.extended_error, opt.options
    return Reply(
        rcode,
        body,
        authoritative=bool(flags & 0x0400),
        recursion_available=bool(flags & 0x0080),
        authentic_data=bool(flags & 0x0020),
        checking_disabled=bool(flags & 0x0010),
        truncated=bool(flags & 0x0200),
        extended_error=extended_error,
        options=options,
        writer=writer,
    )


def read_header(message: bytes, message_id: int) -> Reply:
    """That there is a reply to what was asked with this id, and its rcode; nothing else of it is read or believed.

    Raises FormatError where there is none.
    """
    if len(message) < HEADER_SIZE or int.from_bytes(message[:2], "big") != message_id or not message[2] & 0x80:
        raise FormatError("no reply")
    return Reply(message[3] & 15)


class _Opt(NamedTuple):
    """What a reply's OPT record says."""

    start: int  # octets of the message it takes
    end: int
    extended_rcode: int
    extended_error: tuple[int, str] | None  # the first of them
    options: tuple[tuple[int, bytes], ...]  # (code, data) of the others that go on to the client


def _is_same_question(got: bytes, asked: bytes) -> bool:
    """Whether two questions ask the same; letters' case does not count in the name."""
    return got == asked or (got[-4:] == asked[-4:] and got[:-4].lower() == asked[:-4].lower())


def _walk(message: bytes, start: int, answers: int, authorities: int, additionals: int) -> tuple[Body, _Opt | None]:
    """The sections behind the question, and the OPT record taken out of them."""
    names: dict[int, int] = {}  # where a name begins -> its length when written out
    size = len(message)
    unpack = _FIXED.unpack_from
    at, opt, opt_index = start, None, 0
    first_additional = answers + authorities
    # The run of addresses alike to the octet that ends the answers: where it begins, and what they share.
    run_start, run_like, run_length, run_records = start, b"", 0, 0
    for index in range(first_additional + additionals):
        record = at
        if message[at] == _POINTER and message[at + 1] == HEADER_SIZE:
            at += 2  # the question's name: most owners of an answer
        else:
            at = _skip_name(message, at, names)
        rtype, _, ttl, length = unpack(message, at)
        data = at + 10
        end = data + length
        if end > size:
            raise FormatError(f"record data of {length} octets, {size - data} are left")
        if rtype in _NAMES_IN:
            _check_names(message, data, end, rtype, names)
        elif rtype == RRType.OPT:
            if index < first_additional or opt is not None or at != record + 1:
                raise FormatError("a misplaced OPT record")
            opt, opt_index = _read_opt(message, record, data, end, ttl), index
        elif rtype in _ADDRESS_SIZES and length != _ADDRESS_SIZES[rtype]:
            raise FormatError(f"an address of {length} octets")
        if index < answers:
            like = message[record : at + 4]  # owner, type and class
            if like == run_like and end - record == run_length:
                run_records += 1
            else:
                run_start, run_like, run_length, run_records = record, like, end - record, 1
        at = end
    if opt is None:
        octets = message[start:at]
    else:
        last = first_additional + additionals - 1
        octets = message[start : opt.start]
        if opt_index < last:
            octets += _moved_up(message, opt, last - opt_index)
        additionals -= 1
    rotates = run_records > 1 and not authorities and not additionals and run_like[-4:-2] in _ROTATED
    return Body(
        octets,
        answers,
        authorities,
        additionals,
        run_start - start if rotates else 0,
        run_length if rotates else 0,
    ), opt


def _skip_name(message: bytes, start: int, names: dict[int, int]) -> int:
    """The offset behind the name at `start`. Raises FormatError, or IndexError at the message's end."""
    at, segment, written, after = start, start, 0, 0
    found: list[tuple[int, int]] = []  # (where a label or pointer stands, octets of the name before it)
    while True:
        if after and at in names:
            total = written + names[at]
            break
        label = message[at]
        if label == 0:
            total = written + 1
            after = after or at + 1
            break
        if label >= _POINTER:
            target = (label & 0x3F) << 8 | message[at + 1]
            if not HEADER_SIZE <= target < segment:
                raise FormatError(f"a pointer at octet {at} leads to octet {target}, expected one before it")
            after = after or at + 2
            found.append((at, written))  # pointers to pointers are followed once, however many records have them
            at = segment = target
            continue
        if label > MAX_LABEL:
            raise FormatError(f"a label of unknown kind 0x{label:02x}")
        found.append((at, written))
        written += 1 + label
        if written >= MAX_NAME:
            raise FormatError(f"a name of more than {MAX_NAME} octets")
        at += 1 + label
    if total > MAX_NAME:
        raise FormatError(f"a name of {total} octets, expected at most {MAX_NAME}")
    for offset, before in found:
        names[offset] = total - before
    return after


def _check_names(message: bytes, at: int, end: int, rtype: int, names: dict[int, int]) -> None:
    """Whether record data whose form is known has it. Raises FormatError."""
    before, count, behind = _NAMES_IN[rtype]
    at += before
    for _ in range(count):
        at = _skip_name(message, at, names)
    if at + behind != end:
        raise FormatError(f"data of a record of type {rtype} ends at octet {at + behind}, expected {end}")


def _read_opt(message: bytes, start: int, at: int, end: int, ttl: int) -> _Opt:
    """An OPT record; its options must fill it (RFC 6891, 6.1.2)."""
    extended_error: tuple[int, str] | None = None
    options: list[tuple[int, bytes]] = []
    while at < end:
        code, length = struct.unpack_from("!HH", message, at)
        data = at + 4
        at = data + length
        if at > end:
            raise FormatError("an EDNS option runs past its record")
        if code == EdnsOption.EXTENDED_ERROR and extended_error is None and length >= 2:
            text = message[data + 2 : at].decode("utf-8", "replace").rstrip("\0")
            extended_error = (int.from_bytes(message[data : data + 2], "big"), text)
        elif code not in HOP_BY_HOP:
            options.append((code, message[data:at]))
    return _Opt(start, end, ttl >> 24, extended_error, tuple(options))


def _moved_up(message: bytes, opt: _Opt, count: int) -> bytes:
    """The records behind the OPT record, to stand where it stood. They were walked before."""
    gap = opt.end - opt.start
    moved = bytearray()
    at = opt.end
    for _ in range(count):
        at = _copy_name(message, at, opt, gap, moved)
        rtype, _, _, length = _FIXED.unpack_from(message, at)
        moved += message[at : at + 10]
        at += 10
        end = at + length
        before, names, _ = _NAMES_IN.get(rtype, (0, 0, 0))
        moved += message[at : at + before]
        at += before
        for _ in range(names):
            at = _copy_name(message, at, opt, gap, moved)
        moved += message[at:end]
        at = end
    return bytes(moved)


def _copy_name(message: bytes, at: int, opt: _Opt, gap: int, out: bytearray) -> int:
    """Append the name at `at` to `out`, its pointer corrected; the offset behind it."""
    start = at
    while 0 < message[at] < _POINTER:
        at += 1 + message[at]
    if message[at] == 0:
        out += message[start : at + 1]
        return at + 1
    target = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
    if opt.start <= target < opt.end:
        raise FormatError("a pointer into the OPT record")
    out += message[start:at]
    out += (0xC000 | (target - gap if target >= opt.end else target)).to_bytes(2, "big")
    return at + 2


def is_empty(reply: Reply) -> bool:
    """Whether a reply says that the name has nothing of the type asked for."""
    return reply.rcode == Rcode.NOERROR and not reply.body.answers
