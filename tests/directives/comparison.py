"""How a reply differs from the one a step expects.

Sections are multisets of `name ttl class type rdata`, where a TTL may be a range `28..30`; one not named is expected
empty, unless `ignore` names it; `answer_subset_of` holds what a cut answer may be made of. CNAMEs keep their order, all
records with `ordered`. Names compare without case unless `case_sensitive`. An SOA's serial from a clock counts as 0.

`opt: null` expects no OPT; else DO, the codes of extended errors (`ede`) and other options in hex. The size in it is
not compared, nor an OPT sent to a client that had none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from tests.directives.cases import SECTIONS, Step

FLAGS = ("aa", "tc", "ra", "ad", "cd")
OLDEST_CLOCK = 1_500_000_000  # Unix time; a serial beyond comes from a clock
_SHOWN = 3  # records of a difference shown


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record as text."""

    owner: str
    ttl: int
    rclass: str
    rtype: str
    rdata: str

    def __str__(self) -> str:
        return f"{self.owner} {self.ttl} {self.rclass} {self.rtype} {self.rdata}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a step compares of a reply, or of the messages of a transfer."""

    rcode: str
    flags: Mapping[str, bool]
    sections: Mapping[str, Sequence[Record]]
    opt: Mapping[str, Any] | None
    size: int

    @classmethod
    def read(cls, messages: Sequence[dns.message.Message], size: int) -> Reply:
        """The parts of messages read with one record to an RRset."""
        first = messages[0]
        return cls(
            rcode=dns.rcode.to_text(first.rcode()),
            flags={name: bool(first.flags & dns.flags.Flag[name.upper()]) for name in FLAGS},
            sections={
                name: [_record(rrset) for message in messages for rrset in getattr(message, name)] for name in SECTIONS
            },
            opt=_opt(first),
            size=size,
        )

    @property
    def answer(self) -> Sequence[Record]:
        """Its answer."""
        return self.sections["answer"]

    @property
    def values(self) -> tuple[str, ...]:
        """The data of the answer in their order, without aliases."""
        return tuple(record.rdata for record in self.answer if record.rtype != "CNAME")

    def content(self) -> object:
        """What stays when it is asked again: everything but TTLs and orders."""
        return self.rcode, [
            sorted((found.owner, found.rtype, found.rdata) for found in self.sections[name]) for name in SECTIONS
        ]


def reply_differences(step: Step, reply: Reply) -> list[str]:
    """How a reply differs."""
    ignored = step.get("ignore", ())
    found = _header_differences(step, reply, ignored)
    for name in SECTIONS:
        if name not in ignored:
            found += _section_differences(step, name, reply.sections[name])
    if "opt" in step and "opt" not in ignored:
        found += _opt_differences(step, reply.opt)
    if "max_size" in step and reply.size > step["max_size"]:
        found.append(f"{reply.size} octets, at most {step['max_size']}")
    return found


def is_within(number: int, expected: int | Sequence[int]) -> bool:
    """Whether a count is the one expected, or between the two expected."""
    return number == expected if isinstance(expected, int) else expected[0] <= number <= expected[1]


def _header_differences(step: Step, reply: Reply, ignored: Sequence[str]) -> list[str]:
    found = []
    rcodes = step.get("rcode", reply.rcode)
    if reply.rcode not in ([rcodes] if isinstance(rcodes, str) else rcodes):
        found.append(f"rcode {reply.rcode}, expected {rcodes}")
    return found + [
        f"{name} is {'set' if reply.flags[name] else 'clear'}"
        for name in FLAGS
        if name not in ignored and reply.flags[name] != bool(step.get(name))
    ]


def _section_differences(step: Step, name: str, got: Sequence[Record]) -> list[str]:
    if f"{name}_subset_of" in step:
        extra, _ = _unmatched(step, got, step[f"{name}_subset_of"])
        is_empty = name == "answer" and not got
        return [f"{name}: {_shown(extra)} not listed"] * bool(extra) + ["empty answer"] * is_empty
    expected = step.get(name, ())
    if name == "answer" and step.get("type") == "AXFR":
        got = _without_repetitions(got)
    extra, missing = _unmatched(step, got, expected)
    if extra or missing:
        return [
            f"{name}: {word} {_shown(records)}"
            for word, records in (("unexpected", extra), ("missing", missing))
            if records
        ]
    wanted = [text.split(None, 4) for text in expected]
    if step.get("ordered"):
        orders = [_folded(record.owner, record.rdata) for record in got], [_folded(w[0], w[4]) for w in wanted]
    else:
        aliases = (record for record in got if record.rtype == "CNAME")
        orders = [_folded(record.owner) for record in aliases], [_folded(w[0]) for w in wanted if w[3] == "CNAME"]
    return [] if orders[0] == orders[1] else [f"{name}: in the order {_shown(got)}"]


def _unmatched(step: Step, got: Iterable[Record], expected: Iterable[str]) -> tuple[list[Record], list[str]]:
    """The records too many and too few."""
    left, missing = list(got), []
    for text in expected:
        match = next((record for record in left if _fits(step, record, text)), None)
        if match is None:
            missing.append(text)
        else:
            left.remove(match)
    return left, missing


def _fits(step: Step, record: Record, text: str) -> bool:
    owner, ttl, rclass, rtype, *data = text.split(None, 4)
    least, _, most = ttl.partition("..")
    fold = str if step.get("case_sensitive") else str.lower
    return (
        (fold(record.owner), fold(record.rdata)) == (fold(owner), fold("".join(data)))
        and (record.rclass, record.rtype) == (rclass, rtype)
        and int(least) <= record.ttl <= int(most or least)
    )


def _without_repetitions(records: Sequence[Record]) -> list[Record]:
    """Records without those a transfer sends again, but for the SOA at both ends."""
    repeats = {id(record) for place, record in enumerate(records) if record in records[:place]}
    return [record for record in records if id(record) not in repeats or record.rtype == "SOA"]


def _opt_differences(step: Step, got: Mapping[str, Any] | None) -> list[str]:
    expected = step["opt"]
    if expected is not None and step.get("edns") is None:
        return []
    if (got is None) != (expected is None):
        return ["no OPT" if got is None else "an OPT"]
    if got is None:
        return []
    # DO goes with the answers; a reply made to tell something is not held to it.
    compared = set(got) | set(expected)
    if "ede" in expected or "options" in expected:
        compared.discard("do")
    differing = {key for key in compared if got.get(key) != expected.get(key)}
    return [f"OPT {dict(got)}, expected {expected}"] if differing else []


def _opt(message: dns.message.Message) -> dict[str, Any] | None:
    if message.edns < 0:
        return None
    errors = sorted(int(option.code) for option in message.options if isinstance(option, dns.edns.EDEOption))
    others = {
        str(int(option.otype)): (option.to_wire() or b"").hex()
        for option in message.options
        if not isinstance(option, dns.edns.EDEOption)
    }
    found: dict[str, Any] = {"do": bool(message.ednsflags & dns.flags.DO)}
    return found | ({"ede": errors} if errors else {}) | ({"options": others} if others else {})


def _record(rrset: Any) -> Record:
    (rdata,) = rrset
    rtype, text = dns.rdatatype.to_text(rrset.rdtype), rdata.to_text()
    if rtype == "SOA" and rdata.serial > OLDEST_CLOCK:
        text = rdata.replace(serial=0).to_text()
    return Record(rrset.name.to_text(), rrset.ttl, dns.rdataclass.to_text(rrset.rdclass), rtype, text)


def _folded(*names: str) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _shown(records: Sequence[object]) -> str:
    shown = ", ".join(str(record) for record in records[:_SHOWN])
    return f"{shown} and {len(records) - _SHOWN} more" if len(records) > _SHOWN else shown
