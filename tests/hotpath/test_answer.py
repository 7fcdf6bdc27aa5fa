"""What becomes of a message: answered from the table, answered without it, missed or dropped."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise

import dns.flags
import dns.message
import dns.opcode
import pytest

from kdns.dns import names
from kdns.dns.codes import EdnsOption, Rcode, RRType
from kdns.dns.query import Verdict
from kdns.hotpath.answer import Responder
from kdns.hotpath.detours import Detours
from kdns.metrics import OUTCOMES
from tests.fakes.dns_values import edns_query, opt, option, query
from tests.fakes.hostile_messages import CASES
from tests.fakes.small_table import (
    MANY,
    SERIAL,
    ZONE,
    address,
    at,
    make_responder,
    make_table,
    route,
)
from tests.harness.parsed import sections_of

CHI_SQUARE_LIMIT = 45.0  # six degrees of freedom: a fair generator exceeds it once in twenty million runs
DRAWS = 14_000


def ask(responder: Responder, message: bytes, **rest: object) -> tuple[str, bytes | None]:
    """(outcome, reply)."""
    outcome, reply = responder.respond_once(message, **rest)  # type: ignore[arg-type]
    return OUTCOMES[outcome], reply


def first_address(reply: bytes) -> int:
    return int.from_bytes(sections_of(reply).answer[0].rdata[2:], "big")


def chance_of(position: int, count: int) -> int:
    """A draw that starts at `position` of `count`."""
    return -(-(position << 32) // count) << 32


def test_a_hit_is_the_querys_head_and_the_tables_body():
    message = edns_query(at("one"), do=True)
    outcome, reply = ask(make_responder(), message)
    assert outcome == "answer"
    assert reply[:12] == message[:2] + b"\x85\x00" + struct.pack("!HHHH", 1, 1, 0, 1)
    assert reply[12 : 12 + len(at("one")) + 4] == message[12 : 12 + len(at("one")) + 4]
    assert sections_of(reply).answer[0].rdata == address(0)
    assert dns.message.from_wire(reply).payload == 1232


@pytest.mark.parametrize(
    ("name", "qtype", "outcome"),
    [
        ("one", RRType.A, "answer"),
        ("one", RRType.AAAA, "nodata"),
        ("one", RRType.ANY, "nodata"),
        ("one", 0, "nodata"),
        ("one", 65535, "nodata"),
        ("empty", RRType.A, "nodata"),
        ("nowhere", RRType.A, "nxdomain"),
        ("one.nowhere", RRType.A, "nxdomain"),
        ("", RRType.SOA, "answer"),
        ("", RRType.NS, "answer"),
        ("", RRType.TXT, "nodata"),
        ("one", RRType.SOA, "nodata"),
        ("nowhere", RRType.SOA, "nxdomain"),
        ("srv", RRType.SRV, "answer"),
        ("many", RRType.A, "truncated"),
        # What the table alone does not decide.
        ("other", RRType.A, "miss"),
        ("away", RRType.A, "miss"),
        ("one", RRType.DS, "miss"),
        ("one", RRType.AXFR, "miss"),
        ("", RRType.IXFR, "miss"),
    ],
)
def test_a_name_of_the_zone_has_an_outcome(name, qtype, outcome):
    assert ask(make_responder(), query(at(name), qtype))[0] == outcome


@pytest.mark.parametrize("spelled", ["ONE.cluster.local", "one.CLUSTER.local", "One.Cluster.Local"])
def test_letter_case_does_not_matter_and_comes_back(spelled):
    wire = b"".join(bytes((len(label),)) + label.encode() for label in spelled.split(".")) + b"\0"
    outcome, reply = ask(make_responder(), query(wire))
    assert outcome == "answer"
    assert wire in reply


def test_an_answer_that_spells_the_zone_is_a_miss_in_capitals():
    """Its targets must come back as the client spells the zone."""
    assert ask(make_responder(), query(at("srv").replace(b"srv", b"SRV"), RRType.SRV))[0] == "miss"


def test_a_dot_inside_a_label_matches_no_two_labels():
    assert ask(make_responder(), query(b"\x0eone.cluster.xx\5local\0"))[0] == "refused"
    assert ask(make_responder(), query(b"\x0bone.cluster\5local\0"))[0] == "refused"
    assert ask(make_responder(), query(b"\x05one.a" + ZONE))[0] == "nxdomain"


@pytest.mark.parametrize(("name", "rcode"), [("one", 0), ("nowhere", 3), ("a.b.c.nowhere", 3)])
def test_a_negative_answer_has_the_zones_soa_record(name, rcode):
    reply = ask(make_responder(), edns_query(at(name), RRType.AAAA))[1]
    parsed = dns.message.from_wire(reply)
    assert (parsed.rcode(), parsed.answer, parsed.edns) == (rcode, [], 0)
    assert parsed.flags & dns.flags.AA
    (soa,) = parsed.authority
    assert (
        soa.to_text()
        == f"cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. {SERIAL} 7200 1800 86400 5"
    )


def test_the_soa_record_itself_has_the_serial():
    (soa,) = dns.message.from_wire(ask(make_responder(), query(ZONE, RRType.SOA))[1]).answer
    assert soa[0].serial == SERIAL


# Routes


@pytest.mark.parametrize(("name", "outcome"), [
    ("one.cluster.local", "answer"), ("www.example.org", "miss"), ("refused.test", "refused"),
    ("x.refused.test", "refused"), ("local", "refused"), ("xcluster.local", "refused"),
    (".", "refused"), ("org", "refused"),
])  # fmt: skip
def test_the_route_of_a_name_decides(name, outcome):
    assert ask(make_responder(), query(name))[0] == outcome


def test_the_first_suffix_that_holds_a_name_is_its_route():
    responder = Responder([route(suffix=at("shop.svc"), action=0), route()])
    responder.set_table(make_table())
    assert ask(responder, query(at("shop.svc")))[0] == "miss"
    assert ask(responder, query(at("web.shop.svc")))[0] == "miss"
    assert ask(responder, query(at("xshop.svc")))[0] == "nxdomain"


def test_refusals_have_question_and_opt_and_no_authority():
    parsed = dns.message.from_wire(ask(make_responder(), edns_query("refused.test", do=True))[1])
    assert (parsed.rcode(), parsed.edns, parsed.ednsflags) == (Rcode.REFUSED, 0, dns.flags.DO)
    assert not parsed.flags & dns.flags.AA
    assert parsed.authority == []


def test_without_a_synced_table_the_slow_path_decides():
    assert ask(make_responder(synced=False), query(at("one")))[0] == "miss"
    responder = make_responder()
    responder.set_table(None)
    assert ask(responder, query(at("one")))[0] == "miss"
    assert ask(responder, query("refused.test"))[0] == "refused"


def test_a_name_somebody_else_may_know_is_a_miss():
    responder = make_responder(nxdomain_is_miss=True)
    assert [ask(responder, query(at(name)))[0] for name in ("nowhere", "empty", "one")] == ["miss", "nodata", "answer"]


def test_a_port_may_be_spelled_without_underscores_below_a_service_that_has_ports():
    responder = make_responder(port_depth=4)
    expected = {
        "http.tcp.shop.svc": "miss",
        "http.tcp.one.svc": "nxdomain",
        "tcp.shop.svc": "nxdomain",
        "x.http.tcp.shop.svc": "nxdomain",
    }
    assert {name: ask(responder, query(at(name)))[0] for name in expected} == expected


def test_below_a_depth_the_table_does_not_know_all_names():
    responder = make_responder(miss_depth=3)
    assert [ask(responder, query(at(name)))[0] for name in ("a.b", "a.b.c", "a.b.c.d")] == ["nxdomain", "miss", "miss"]


@pytest.mark.parametrize(("suffix", "soa"), [(b"", bytes(54)), (bytes(256), bytes(54)), (ZONE, bytes(53))])
def test_a_route_that_does_not_fit_is_refused(suffix, soa):
    with pytest.raises(ValueError, match="route 0"):
        Responder([route(suffix=suffix, soa=soa)])


def test_counters_too_small_for_all_outcomes_are_refused():
    with pytest.raises(ValueError, match="octets of counters"):
        Responder([], counters=bytearray(8 * len(OUTCOMES) - 1))


# Other messages

OUTCOME_OF = {
    Verdict.DROP_SHORT: "drop_short",
    Verdict.DROP_RESPONSE: "drop_response",
    Verdict.NOTIMP: "notimp",
    Verdict.FORMERR: "formerr",
    Verdict.BADVERS: "badvers",
    Verdict.OTHER_CLASS: "refused",
}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.verdict is not Verdict.QUERY], ids=lambda case: case.text
)
def test_hostile_messages_get_their_reply_and_no_more_octets_than_they_sent(case):
    for stream in (False, True):
        outcome, reply = ask(make_responder(), case.message, stream=stream)
        assert outcome == OUTCOME_OF[case.verdict]
        assert (reply is None) is outcome.startswith("drop")
        assert len(reply or b"") <= len(case.message)


def test_an_unknown_opcode_clears_every_flag():
    reply = ask(make_responder(), struct.pack("!HHHHHH", 7, 15 << 11 | 0x07F0, 0, 0, 0, 0))[1]
    assert reply == struct.pack("!HHHHHH", 7, 0x8000 | 15 << 11 | Rcode.NOTIMP, 0, 0, 0, 0)


@pytest.mark.parametrize("flag", [0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010])
def test_only_rd_and_cd_are_echoed(flag):
    for name in ("one", "nowhere"):
        reply = ask(make_responder(), query(at(name), flags=flag))[1]
        assert struct.unpack_from("!H", reply, 2)[0] & 0x7F0 == 0x0400 | flag & 0x0110


def test_a_later_edns_version_is_badvers():
    reply = ask(make_responder(), edns_query(at("one"), version=1, options=option(3)))[1]
    parsed = dns.message.from_wire(reply)
    assert (parsed.rcode(), parsed.edns, parsed.answer, parsed.options) == (Rcode.BADVERS, 0, [], ())


def test_edns_options_and_unknown_flags_are_not_echoed():
    for code in (3, 8, 9, 10, 11, 12, 15, 100):
        parsed = dns.message.from_wire(ask(make_responder(), edns_query(at("one"), options=option(code, bytes(8))))[1])
        assert parsed.options == ()
    flags = query(at("one"), counts=(1, 0, 0, 1), tail=opt()[:7] + b"\x7f\xff" + opt()[9:])
    assert dns.message.from_wire(ask(make_responder(), flags)[1]).ednsflags == 0


def test_classes_may_be_passed_to_the_slow_path():
    responder = make_responder(passes_other_classes=True)
    assert ask(responder, query(at("one"), qclass=3))[0] == "miss"
    assert ask(make_responder(), query(at("one"), qclass=3))[0] == "refused"


@pytest.mark.parametrize("stream", [False, True])
def test_keepalive_is_answered_over_streams_only(stream):
    message = edns_query(at("one"), options=option(EdnsOption.TCP_KEEPALIVE))
    found = dns.message.from_wire(ask(make_responder(), message, stream=stream)[1]).options
    assert [(o.otype, o.to_wire()) for o in found] == ([(11, struct.pack("!H", 100))] if stream else [])


# Limits and rotation


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, 512), (0, 512), (512, 512), (900, 900), (1232, 1232), (65535, 1232)]
)
def test_as_many_whole_records_go_as_the_limit_allows(payload, limit):
    message = query(at("many")) if payload is None else edns_query(at("many"), payload=payload)
    outcome, reply = ask(make_responder(), message)
    assert outcome == "truncated"
    assert reply[2] & 0x02
    assert limit - 16 < len(reply) <= limit
    found = [record.rdata for record in sections_of(reply).answer]
    assert set(found) <= set(map(address, range(MANY)))
    assert len(found) == len(set(found))


def test_streams_get_all_of_it():
    outcome, reply = ask(make_responder(), query(at("many")), stream=True)
    assert outcome == "answer"
    assert [record.rdata for record in sections_of(reply).answer] == list(map(address, range(MANY)))


@pytest.mark.parametrize(("name", "qtype", "count"), [("many", RRType.A, MANY), ("srvs", RRType.SRV, 40)])
def test_a_cut_may_begin_at_every_record(name, qtype, count):
    responder = make_responder()
    whole = sections_of(ask(responder, query(at(name), qtype), stream=True)[1]).answer
    for start in range(count):
        outcome, reply = ask(responder, edns_query(at(name), qtype), chance=chance_of(start, count))
        assert outcome == "truncated"
        found = sections_of(reply).answer
        assert found == [*whole[start:], *whole[:start]][: len(found)]


def test_rotation_needs_loadbalance():
    plain, rotating = make_responder(), make_responder(rotates=True)
    assert {first_address(ask(plain, query(at("seven")))[1]) for _ in range(50)} == {0}
    for start in range(7):
        reply = ask(rotating, query(at("seven")), chance=chance_of(start, 7))[1]
        assert [record.rdata for record in sections_of(reply).answer] == [address((start + n) % 7) for n in range(7)]


def chi_square(counts: Counter[int], values: int, draws: int) -> float:
    expected = draws / values
    return sum((counts[value] - expected) ** 2 / expected for value in range(values))


def test_the_first_record_is_uniformly_random():
    responder = make_responder(rotates=True)
    message = query(at("seven"))
    size = len(message) + 12
    counts = Counter(responder.respond_once(message)[1][size + 3] for _ in range(DRAWS))
    assert chi_square(counts, 7, DRAWS) < CHI_SQUARE_LIMIT


def test_the_first_record_does_not_foretell_the_next():
    responder = make_responder(rotates=True)
    message = query(at("seven"))
    size = len(message) + 12
    drawn = [responder.respond_once(message)[1][size + 3] for _ in range(DRAWS + 1)]
    steps = Counter((later - former) % 7 for former, later in pairwise(drawn))
    assert chi_square(steps, 7, DRAWS) < CHI_SQUARE_LIMIT


def test_two_responders_do_not_draw_alike():
    message = query(at("many"))
    streams = [
        [responder.respond_once(message)[1] for _ in range(20)]
        for responder in (make_responder(rotates=True), make_responder(rotates=True))
    ]
    assert streams[0] != streams[1]


def test_names_of_every_length_are_answered_in_full():
    """The reply's room is what the question and OPT leave, to the octet."""
    table = make_table()
    responder = Responder([route()])
    responder.set_table(table)
    for size in range(1, 60):
        name = names.from_labels([b"n" * size, b"m" * 63, b"m" * 63, b"cluster", b"local"])
        body = b"\xc0\x0c" + struct.pack("!HHIH", RRType.TXT, 1, 5, 300) + bytes(300)
        table.replace_node(name, 0, 0, [(RRType.TXT, 0, 0, 1, 0, 0, body, None)])
        outcome, reply = ask(responder, query(name, RRType.TXT))
        whole = 12 + len(name) + 4 + len(body)
        assert outcome == ("answer" if whole <= 512 else "truncated")
        assert len(reply) == (whole if whole <= 512 else whole - len(body))


@pytest.mark.parametrize(("name", "qtype"), [("one", RRType.ANY), ("nowhere", RRType.ANY), ("", RRType.ANY)])
def test_type_any_may_be_anothers(name, qtype):
    assert ask(make_responder(any_is_miss=True), query(at(name), qtype))[0] == "miss"
    assert ask(make_responder(any_is_miss=True), query(at("one")))[0] == "answer"


def test_additional_records_may_be_anothers_to_see_to():
    responder = make_responder(additional_is_miss=True)
    assert ask(responder, query(at("srv"), RRType.SRV))[0] == "miss"
    assert ask(responder, query(at("one")))[0] == "answer"
    assert ask(responder, query(at("srv"), RRType.TXT))[0] == "nodata"
    assert ask(responder, query(at("nowhere"), RRType.SRV))[0] == "nxdomain"


def test_a_limit_below_the_clients_cuts():
    outcome, reply = ask(make_responder(udp_limit=512), edns_query(at("many"), payload=1232))
    assert outcome == "truncated"
    assert 480 < len(reply) <= 512
    assert ask(make_responder(udp_limit=512), query(at("many")), stream=True)[0] == "answer"


def test_a_limit_beyond_a_batchs_room_leaves_long_replies_to_the_slow_path():
    responder = make_responder(udp_limit=4096)
    assert ask(responder, edns_query(at("many"), payload=4096))[0] == "miss"
    assert ask(responder, edns_query(at("many"), payload=1232))[0] == "truncated"
    assert ask(responder, edns_query(at("one"), payload=4096))[0] == "answer"
    assert ask(responder, query(at("many")), stream=True)[0] == "answer"


def test_names_another_plugin_answers_are_left_to_it_also_when_they_change():
    detours = Detours()
    responder = make_responder(detours=detours)
    assert ask(responder, query(at("one")))[0] == "answer"
    detours.replace([at("one"), at("*.wild")])
    assert ask(responder, query(at("one")))[0] == "miss"
    assert ask(responder, query(at("one").upper(), RRType.TXT))[0] == "miss"
    assert ask(responder, query(at("x.wild")))[0] == "miss"
    assert ask(responder, query(at("wild")))[0] == "nxdomain"
    detours.replace([])
    assert ask(responder, query(at("one")))[0] == "answer"
