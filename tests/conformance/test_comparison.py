"""The comparison finds every way a reply can be wrong: each mutation of each kind of reply in the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest

from tests.conformance.cases import SECTIONS, TCP, TRANSPORTS, Query, ResourceRecord, load, scenario_paths
from tests.conformance.comparison import differences
from tests.fakes.expected_replies import expected_reply, render, rrset_of

SCENARIOS = [load(path) for path in scenario_paths()]
CASES = [(query, transport) for scenario in SCENARIOS for query in scenario.queries for transport in query.transports]


def shape(query: Query, transport: str) -> tuple[object, ...]:
    """What the comparison of a reply depends on."""
    records = {**query.exact, **query.subset}
    kinds = tuple((name, tuple(sorted(Counter(record.rtype for record in records[name]).items()))) for name in SECTIONS)
    has_capitals = query.qname != query.qname.lower()
    traits = (query.rcode, query.aa, query.tc, query.is_opt_given, str(query.opt), query.edns is None)
    return (*traits, query.is_case_sensitive, has_capitals, query.is_forwarding, tuple(query.subset), kinds, transport)


SHAPES = list({shape(query, transport): (query, transport) for query, transport in CASES}.values())
STRAY = ResourceRecord("stray.cluster.local.", 5, "IN", "A", "192.0.2.99")

# A mutation changes the reply and says whether it could: a reply without records cannot lose one.
Mutation = Callable[[dns.message.Message, Query], bool]
MUTATIONS: dict[str, Mutation] = {}


def mutation(change: Mutation) -> Mutation:
    MUTATIONS[change.__name__] = change
    return change


def replies(query: Query, transport: str) -> tuple[dns.message.Message, dns.message.Message]:
    sent = query.message()
    return sent, expected_reply(query, sent, transport)


def sections_compared(reply: dns.message.Message) -> Iterator[list[dns.rrset.RRset]]:
    for name in SECTIONS:
        if getattr(reply, name):
            yield getattr(reply, name)


def is_exact(query: Query, reply: dns.message.Message, name: str) -> bool:
    return bool(getattr(reply, name)) and (name in query.exact or not reply.flags & dns.flags.TC)


@mutation
def record_missing(reply: dns.message.Message, query: Query) -> bool:
    for name in SECTIONS:
        if is_exact(query, reply, name):
            getattr(reply, name).pop()
            return True
    return False


@mutation
def record_too_many(reply: dns.message.Message, _: Query) -> bool:
    reply.answer.append(rrset_of(STRAY))
    return True


@mutation
def stray_authority(reply: dns.message.Message, _: Query) -> bool:
    reply.authority.append(rrset_of(STRAY))
    return True


@mutation
def stray_additional(reply: dns.message.Message, _: Query) -> bool:
    reply.additional.append(rrset_of(STRAY))
    return True


@mutation
def record_twice(reply: dns.message.Message, query: Query) -> bool:
    for name in SECTIONS:
        if is_exact(query, reply, name):
            section = getattr(reply, name)
            # Not the SOA at the end of a transfer, and not a CNAME's target before it.
            section.insert(len(section) - 1, section[-1])
            return True
    return False


@mutation
def ttl_one_more(reply: dns.message.Message, _: Query) -> bool:
    for section in sections_compared(reply):
        section[-1].ttl += 1
        return True
    return False


@mutation
def owner_of_another(reply: dns.message.Message, _: Query) -> bool:
    for section in sections_compared(reply):
        section[-1].name = dns.name.from_text("other.example.")
        return True
    return False


@mutation
def data_of_another(reply: dns.message.Message, _: Query) -> bool:
    others = {
        "A": "192.0.2.99",
        "AAAA": "2001:db8::99",
        "SRV": "0 99 99 other.example.",
        "SOA": "ns.other.example. hostmaster.other.example. 0 7200 1800 86400 5",
        "TXT": '"other"',
    }
    for section in sections_compared(reply):
        kind = dns.rdatatype.to_text(section[-1].rdtype)
        section[-1] = dns.rrset.from_text(
            section[-1].name, section[-1].ttl, "IN", kind, others.get(kind, "other.example.")
        )
        return True
    return False


@mutation
def soa_minimum_one_more(reply: dns.message.Message, _: Query) -> bool:
    for section in sections_compared(reply):
        (value,) = section[0]
        if value.rdtype == dns.rdatatype.SOA:
            section[0] = dns.rrset.from_rdata(section[0].name, section[0].ttl, value.replace(minimum=value.minimum + 1))
            return True
    return False


@mutation
def srv_weight_one_less(reply: dns.message.Message, _: Query) -> bool:
    for position, rrset in enumerate(reply.answer):
        (value,) = rrset
        if value.rdtype == dns.rdatatype.SRV:
            changed = value.replace(weight=value.weight - 1)
            reply.answer[position] = dns.rrset.from_rdata(rrset.name, rrset.ttl, changed)
            return True
    return False


@mutation
def alias_after_its_target(reply: dns.message.Message, _: Query) -> bool:
    kinds = [rrset.rdtype for rrset in reply.answer]
    if len(kinds) < 2 or kinds[0] != dns.rdatatype.CNAME:
        return False
    reply.answer.reverse()
    return True


@mutation
def answer_in_authority(reply: dns.message.Message, query: Query) -> bool:
    if not is_exact(query, reply, "answer"):
        return False
    reply.authority.append(reply.answer.pop())
    return True


@mutation
def additional_in_answer(reply: dns.message.Message, _: Query) -> bool:
    if not reply.additional:
        return False
    reply.answer.append(reply.additional.pop())
    return True


@mutation
def case_lost(reply: dns.message.Message, query: Query) -> bool:
    if not query.is_case_sensitive:
        return False
    for section in sections_compared(reply):
        folded = dns.name.from_text(section[0].name.to_text().lower())
        if folded.to_text() != section[0].name.to_text():
            section[0].name = folded
            return True
    return False


@mutation
def question_folded(reply: dns.message.Message, _: Query) -> bool:
    name = reply.question[0].name
    folded = dns.name.from_text(name.to_text().lower())
    reply.question[0].name = folded
    return folded.to_text() != name.to_text()


@mutation
def question_of_another(reply: dns.message.Message, _: Query) -> bool:
    reply.question[0].name = dns.name.from_text("other.example.")
    return True


@mutation
def question_missing(reply: dns.message.Message, _: Query) -> bool:
    reply.question.clear()
    return True


@mutation
def id_of_another(reply: dns.message.Message, _: Query) -> bool:
    reply.id ^= 1
    return True


@mutation
def rcode_of_another(reply: dns.message.Message, _: Query) -> bool:
    reply.set_rcode(dns.rcode.SERVFAIL if reply.rcode() != dns.rcode.SERVFAIL else dns.rcode.NXDOMAIN)
    return True


def flag_flipped(flag: int) -> Mutation:
    def change(reply: dns.message.Message, _: Query) -> bool:
        reply.flags ^= flag
        return True

    return change


for letter in ("QR", "AA", "TC", "RD", "CD"):
    MUTATIONS[f"{letter.lower()}_flipped"] = flag_flipped(dns.flags.Flag[letter])
MUTATIONS["z_set"] = flag_flipped(0x0040)
MUTATIONS["opcode_notify"] = flag_flipped(4 << 11)


@mutation
def recursion_available(reply: dns.message.Message, query: Query) -> bool:
    reply.flags |= dns.flags.RA
    return not query.is_forwarding


@mutation
def opt_missing(reply: dns.message.Message, _: Query) -> bool:
    had = reply.edns >= 0 and reply.rcode() < 16  # without OPT there is no BADVERS: another mutation
    if had:
        reply.use_edns(False)
    return had


@mutation
def opt_unasked(reply: dns.message.Message, _: Query) -> bool:
    had = reply.edns >= 0
    reply.use_edns(0, 0, 1232)
    return not had


@mutation
def opt_size_of_client(reply: dns.message.Message, query: Query) -> bool:
    if reply.edns < 0 or "bufsize" not in (query.opt or {}):
        return False
    reply.use_edns(0, reply.ednsflags, 4096)
    return True


@mutation
def do_flipped(reply: dns.message.Message, query: Query) -> bool:
    if reply.edns < 0 or "do" not in (query.opt or {}):
        return False
    reply.use_edns(0, reply.ednsflags ^ dns.flags.DO, reply.payload)
    return True


@mutation
def edns_flag_echoed(reply: dns.message.Message, _: Query) -> bool:
    had = reply.edns >= 0
    if had:
        reply.use_edns(0, reply.ednsflags | 0x0080, reply.payload)
    return had


@mutation
def edns_version_one(reply: dns.message.Message, _: Query) -> bool:
    had = reply.edns >= 0
    if had:
        reply.use_edns(1, reply.ednsflags, reply.payload)
    return had


@mutation
def option_echoed(reply: dns.message.Message, query: Query) -> bool:
    if reply.edns < 0 or "options" not in (query.opt or {}):
        return False
    reply.use_edns(
        0, reply.ednsflags, reply.payload, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))]
    )
    return True


def test_expected_reply_is_right() -> None:
    wrong = []
    for query, transport in CASES:
        sent, reply = replies(query, transport)
        found = differences(query, sent, [render(reply)], transport)
        wrong += [(query.id, transport, found)] if found else []
    assert not wrong


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutated_reply_is_found_wrong(name: str) -> None:
    accepted = []
    mutated = 0
    for query, transport in SHAPES:
        sent, reply = replies(query, transport)
        if MUTATIONS[name](reply, query):
            mutated += 1
            if not differences(query, sent, [render(reply)], transport):
                accepted.append((query.id, transport))
    assert mutated, "no reply of the data can be mutated like this"
    assert not accepted


def test_missing_reply_is_found_wrong() -> None:
    query, transport = CASES[0]
    assert differences(query, query.message(), [], transport) == ["no reply"]


@pytest.mark.parametrize("cut", [1, 11, 20, -1])
def test_reply_that_is_no_message_is_found_wrong(cut: int) -> None:
    query, transport = CASES[0]
    sent, reply = replies(query, transport)
    assert differences(query, sent, [render(reply)[:cut]], transport)


def test_trailing_bytes_are_found_wrong() -> None:
    query, transport = CASES[0]
    sent, reply = replies(query, transport)
    assert differences(query, sent, [render(reply) + b"\0"], transport)


def test_truncated_reply_may_hold_any_of_the_records_but_not_none() -> None:
    query = next(query for query, _ in CASES if query.tc and "answer" in query.subset)
    sent, reply = replies(query, "udp")
    reply.answer = [rrset_of(query.subset["answer"][-1])]
    assert not differences(query, sent, [render(reply)], "udp")
    reply.answer = []
    assert differences(query, sent, [render(reply)], "udp")


def test_reply_cut_over_udp_is_whole_over_tcp() -> None:
    query = next(query for query, _ in CASES if query.tc and "answer" in query.subset)
    sent, cut = replies(query, "udp")
    assert differences(query, sent, [render(cut)], TCP)


def test_udp_reply_over_the_limit_is_found_wrong() -> None:
    query = next(query for query, _ in CASES if query.tc and "answer" in query.subset)
    sent, reply = replies(query, "udp")
    reply.answer = [rrset_of(record) for record in query.subset["answer"]]
    assert any("octets over UDP" in text for text in differences(query, sent, [render(reply)], "udp"))


def test_soa_serial_does_not_count() -> None:
    query = next(query for query, _ in CASES if query.exact.get("authority"))
    sent, reply = replies(query, "udp")
    (value,) = reply.authority[0]
    reply.authority[0] = dns.rrset.from_rdata(
        reply.authority[0].name, reply.authority[0].ttl, value.replace(serial=1_764_000_000)
    )
    assert not differences(query, sent, [render(reply)], "udp")


def test_every_query_is_asked_over_some_transport() -> None:
    assert {transport for _, transport in CASES} == set(TRANSPORTS)
    assert all(query.transports for scenario in SCENARIOS for query in scenario.queries)
