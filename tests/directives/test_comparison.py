"""What the judge of the directive cases finds, and what it lets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.directives.cases import Start, Surroundings, load
from tests.directives.comparison import Reply, reply_differences
from tests.directives.grounds import SharedGrounds
from tests.directives.judge import start_differences

START = Start("a", Surroundings(""), 1, ["Corefile:1 - wrong"], "^plugin/")
SAID = "Corefile:1 - wrong\nplugin/x: no\n"
RECORDS = ["a.test. 60 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.1", "b.test. 30 IN A 192.0.2.2"]
STEP = {"rcode": "NOERROR", "aa": True, "opt": None, "answer": RECORDS}


def test_start_as_expected_passes() -> None:
    assert start_differences(START, 1, SAID) == []


@pytest.mark.parametrize(
    ("ended", "said"),
    [(0, SAID), ("running", SAID), (1, "Corefile:1 - wrong\n"), (1, "plugin/x: no\n"), (1, SAID.replace("1 -", "2 -"))],
)
def test_start_that_differs_is_found(ended: int | str, said: str) -> None:
    assert start_differences(START, ended, said)


def a_reply(answer: list[str] = RECORDS, **changes: Any) -> Reply:
    query = dns.message.make_query("a.test.", "A")
    if "edns" in changes:
        query.use_edns(0)
    made = dns.message.make_response(query, our_payload=1232)
    made.flags |= dns.flags.AA
    made.set_rcode(changes.get("rcode", dns.rcode.NOERROR))
    made.flags ^= changes.get("flags", 0)
    for section, lines in (("answer", answer), ("additional", changes.get("additional", []))):
        for line in lines:
            owner, ttl, rclass, rtype, rdata = line.split(None, 4)
            getattr(made, section).append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata))
    if "options" in changes:
        made.use_edns(0, options=changes["options"])
    return Reply.read([made], len(made.to_wire()))


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        pytest.param(STEP, a_reply(), id="the same"),
        pytest.param(STEP, a_reply([RECORDS[0], RECORDS[2], RECORDS[1]]), id="addresses in another order"),
        pytest.param({**STEP, "answer": [*RECORDS[:2], "b.test. 28..30 IN A 192.0.2.2"]}, a_reply(), id="TTL in range"),
        pytest.param({**STEP, "rcode": ["REFUSED", "NOERROR"]}, a_reply(), id="one of two rcodes"),
        pytest.param(STEP, a_reply([line.replace("b.test", "B.test") for line in RECORDS]), id="another case"),
        pytest.param({**STEP, "ignore": ["additional"]}, a_reply(additional=RECORDS[1:2]), id="section ignored"),
        pytest.param({**STEP, "opt": {"do": False}, "edns": {}}, a_reply(edns=True), id="OPT"),
        pytest.param({"aa": True, "answer_subset_of": RECORDS}, a_reply(RECORDS[:2]), id="a part of the answer"),
        pytest.param(
            {**STEP, "answer": ["t. 5 IN SOA a. b. 0 1 1 1 1"]},
            a_reply(["t. 5 IN SOA a. b. 1790000000 1 1 1 1"]),
            id="clock",
        ),
    ],
)
def test_reply_as_expected_passes(step: dict[str, Any], reply: Reply) -> None:
    assert reply_differences(step, reply) == []


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        pytest.param(STEP, a_reply(rcode=dns.rcode.SERVFAIL), id="rcode"),
        pytest.param(STEP, a_reply(flags=dns.flags.AA), id="AA clear"),
        pytest.param(STEP, a_reply(flags=dns.flags.TC), id="TC set"),
        pytest.param(STEP, a_reply(RECORDS[:2]), id="record missing"),
        pytest.param(STEP, a_reply([*RECORDS, RECORDS[1]]), id="record twice"),
        pytest.param(STEP, a_reply(additional=RECORDS[1:2]), id="record in a section not named"),
        pytest.param(STEP, a_reply([*RECORDS[:2], "b.test. 31 IN A 192.0.2.2"]), id="TTL"),
        pytest.param(STEP, a_reply(edns=True), id="OPT though none is expected"),
        pytest.param({**STEP, "opt": {"do": False}, "edns": {}}, a_reply(), id="no OPT"),
        pytest.param(
            {**STEP, "opt": {"ede": [15]}, "edns": {}},
            a_reply(options=[dns.edns.EDEOption(dns.edns.EDECode.FILTERED)]),
            id="another EDE",
        ),
        pytest.param({**STEP, "ordered": True}, a_reply([RECORDS[0], RECORDS[2], RECORDS[1]]), id="order"),
        pytest.param(
            {**STEP, "answer": ["b.test. 1 IN CNAME c.test.", "a.test. 1 IN CNAME b.test."]},
            a_reply(["a.test. 1 IN CNAME b.test.", "b.test. 1 IN CNAME c.test."]),
            id="order of aliases",
        ),
        pytest.param(
            {**STEP, "case_sensitive": True}, a_reply([line.replace("b.test", "B.test") for line in RECORDS]), id="case"
        ),
        pytest.param({"aa": True, "answer_subset_of": RECORDS}, a_reply([]), id="nothing of the answer"),
        pytest.param({**STEP, "max_size": 20}, a_reply(), id="size"),
    ],
)
def test_reply_that_differs_is_found(step: dict[str, Any], reply: Reply) -> None:
    assert reply_differences(step, reply)


def test_unknown_key_in_the_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("{name: case, corefile: '', steps: [{q: a.test., rcode: NOERROR, expect: b}]}")
    with pytest.raises(ValueError, match="unknown keys"):
        load(path)


def test_key_of_another_kind_of_step_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("{name: case, corefile: '', steps: [{http: ':8080/health', rcode: NOERROR}]}")
    with pytest.raises(ValueError, match="unknown keys"):
        load(path)


def test_upstreams_on_the_machines_loopback_are_served_and_expected_where_they_are() -> None:
    grounds = SharedGrounds()
    grounds.upstream_port = 5300
    own = grounds.server.dns_port
    assert grounds.address("10.53.0.1") == "127.53.0.1"
    assert grounds.served("forward . 10.53.0.1 10.53.0.2:5353") == "forward . 127.53.0.1:5300 127.53.0.2:5353"
    assert grounds.expected(r'to="10\.53\.0\.1:53"') == r'to="127\.53\.0\.1:5300"'
    assert grounds.expected(r"\.:53 on 127\.0\.0\.2, not :5353") == rf"\.:{own} on 127\.0\.0\.2, not :5353"
