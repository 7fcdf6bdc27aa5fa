"""What a zone answers, beside the rules of RFC 1034, 4592 and 6672."""

from __future__ import annotations

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType, rcode_text, type_number, type_text
from kdns.dns.compression import EMPTY
from kdns.dns.rrset import Record
from kdns.plugins.file import zone as zone_module
from kdns.plugins.file.zone import Found, Zone, ZoneError
from kdns.plugins.file.zone_text import parse_zone_text

ORIGIN = names.from_text("zone.test")
SOA = "zone.test. SOA"
NS = "zone.test. NS"
WWW = ["www.zone.test. A"] * 2
MAIL = ["mail.zone.test. A", "mail.zone.test. AAAA"]
OLD = ["old.zone.test. DNAME", "a.old.zone.test. CNAME"]

ZONE = """
$TTL 60
@ SOA ns root 7 3600 600 86400 60
@ NS ns
@ MX 10 mail
@ MX 20 mail.elsewhere.test.
ns A 192.0.2.53
mail A 192.0.2.25
mail AAAA 2001:db8::25
www A 192.0.2.1
www A 192.0.2.2
alias CNAME alias2
alias2 CNAME www
out CNAME www.elsewhere.test.
half CNAME out
dangling CNAME none.www
here CNAME there.wild
loop CNAME pool
pool CNAME loop
_s._tcp SRV 0 5 80 mail
a.deep.ent A 192.0.2.3
*.wild TXT "wild"
*.wild MX 5 mail
a.b.wild TXT "own"
*.links CNAME www
sub NS ns.sub
sub NS ns.elsewhere.test.
sub DS 1 8 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.sub A 192.0.2.54
below.sub TXT "hidden"
tosub CNAME x.sub
plain NS ns.plain
old DNAME new
old TXT "owner"
x.old A 192.0.2.9
a.new A 192.0.2.8
away DNAME elsewhere.test.
"""


def zone_of(text: str = ZONE, origin: bytes = ORIGIN) -> Zone:
    made = list(Zone.build(origin, parse_zone_text(text, origin, "db.test")))[-1]
    assert made is not None
    return made


@pytest.fixture(scope="module")
def zone() -> Zone:
    return zone_of()


def short(records: tuple[Record, ...]) -> list[str]:
    return [f"{names.to_text(record.owner)} {type_text(record.rtype)}" for record in records]


def find(zone: Zone, name: str, rtype: str = "A") -> Found:
    number = type_number(rtype)
    assert number is not None
    return zone.find(names.from_text(name), number)


def seen(found: Found) -> tuple[str, list[str], list[str], list[str]]:
    return rcode_text(found.rcode), short(found.answers), short(found.authorities), short(found.additionals)


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "answers", "authorities", "additionals"),
    [
        ("www.zone.test", "A", "NOERROR", WWW, [NS], []),
        ("zone.test", "SOA", "NOERROR", [SOA], [NS], []),
        ("zone.test", "NS", "NOERROR", [NS], [], ["ns.zone.test. A"]),
        ("zone.test", "MX", "NOERROR", ["zone.test. MX"] * 2, [NS], MAIL),
        ("_s._tcp.zone.test", "SRV", "NOERROR", ["_s._tcp.zone.test. SRV"], [NS], MAIL),
        ("alias.zone.test", "CNAME", "NOERROR", ["alias.zone.test. CNAME"], [NS], []),
        ("alias.zone.test", "A", "NOERROR", ["alias.zone.test. CNAME", "alias2.zone.test. CNAME", *WWW], [NS], []),
        # What is not there: the SOA record says for how long, behind a chain as well (RFC 2308, 2).
        ("www.zone.test", "TXT", "NOERROR", [], [SOA], []),
        ("none.zone.test", "A", "NXDOMAIN", [], [SOA], []),
        ("none.www.zone.test", "A", "NXDOMAIN", [], [SOA], []),
        ("alias2.zone.test", "TXT", "NOERROR", ["alias2.zone.test. CNAME"], [SOA], []),
        ("dangling.zone.test", "A", "NXDOMAIN", ["dangling.zone.test. CNAME"], [SOA], []),
        ("loop.zone.test", "A", "NOERROR", ["loop.zone.test. CNAME", "pool.zone.test. CNAME"], [NS], []),
        # Names that only have others below them (RFC 8020).
        ("ent.zone.test", "A", "NOERROR", [], [SOA], []),
        ("deep.ent.zone.test", "A", "NOERROR", [], [SOA], []),
        ("x.ent.zone.test", "A", "NXDOMAIN", [], [SOA], []),
        # Wildcards (RFC 4592).
        ("any.wild.zone.test", "TXT", "NOERROR", ["any.wild.zone.test. TXT"], [NS], []),
        ("x.any.wild.zone.test", "TXT", "NOERROR", ["x.any.wild.zone.test. TXT"], [NS], []),
        ("any.wild.zone.test", "MX", "NOERROR", ["any.wild.zone.test. MX"], [NS], MAIL),
        ("any.wild.zone.test", "A", "NOERROR", [], [SOA], []),
        ("*.wild.zone.test", "TXT", "NOERROR", ["*.wild.zone.test. TXT"], [NS], []),
        ("wild.zone.test", "TXT", "NOERROR", [], [SOA], []),
        ("b.wild.zone.test", "TXT", "NOERROR", [], [SOA], []),
        ("x.b.wild.zone.test", "TXT", "NXDOMAIN", [], [SOA], []),
        ("any.links.zone.test", "A", "NOERROR", ["any.links.zone.test. CNAME", *WWW], [NS], []),
        ("here.zone.test", "TXT", "NOERROR", ["here.zone.test. CNAME", "there.wild.zone.test. TXT"], [NS], []),
        # The parent speaks of a cut's DS records, and only of them (RFC 4035, 3.1.4.1).
        ("sub.zone.test", "DS", "NOERROR", ["sub.zone.test. DS"], [NS], []),
        ("plain.zone.test", "DS", "NOERROR", [], [SOA], []),
        # DNAME: of the names below it alone.
        ("old.zone.test", "TXT", "NOERROR", ["old.zone.test. TXT"], [NS], []),
        ("old.zone.test", "DNAME", "NOERROR", ["old.zone.test. DNAME"], [NS], []),
        ("a.old.zone.test", "A", "NOERROR", [*OLD, "a.new.zone.test. A"], [NS], []),
        ("a.old.zone.test", "CNAME", "NOERROR", OLD, [NS], []),
        ("x.old.zone.test", "A", "NXDOMAIN", ["old.zone.test. DNAME", "x.old.zone.test. CNAME"], [SOA], []),
    ],
)  # fmt: skip
def test_a_question_gets_what_the_zone_knows(
    zone: Zone, name: str, rtype: str, rcode: str, answers: list[str], authorities: list[str], additionals: list[str]
):
    found = find(zone, name, rtype)
    assert seen(found) == (rcode, answers, authorities, additionals)
    assert (found.is_referral, found.target) == (False, None)


@pytest.mark.parametrize("name", ["sub.zone.test", "x.sub.zone.test", "below.sub.zone.test", "ns.sub.zone.test"])
@pytest.mark.parametrize("rtype", ["A", "TXT", "NS"])
def test_names_at_and_below_a_cut_are_referred_to_its_servers_with_glue(zone: Zone, name: str, rtype: str):
    found = find(zone, name, rtype)
    assert seen(found) == ("NOERROR", [], ["sub.zone.test. NS"] * 2, ["ns.sub.zone.test. A"])
    assert found.is_referral


def test_ds_below_a_cut_is_referred_too(zone: Zone):
    assert find(zone, "x.sub.zone.test", "DS").is_referral


@pytest.mark.parametrize(
    ("name", "chain", "target"),
    [
        ("out.zone.test", ["out.zone.test. CNAME"], "www.elsewhere.test."),
        ("half.zone.test", ["half.zone.test. CNAME", "out.zone.test. CNAME"], "www.elsewhere.test."),
        ("tosub.zone.test", ["tosub.zone.test. CNAME"], "x.sub.zone.test."),
        ("b.away.zone.test", ["away.zone.test. DNAME", "b.away.zone.test. CNAME"], "b.elsewhere.test."),
    ],
)
def test_a_chain_that_leaves_the_zone_says_where_to(zone: Zone, name: str, chain: list[str], target: str):
    found = find(zone, name)
    assert short(found.answers) == chain
    assert found.target == names.from_text(target)


def test_a_name_that_a_dname_makes_too_long_is_an_error():
    long = ".".join(["l" * 60] * 3)
    zone = zone_of(f"$TTL 5\n@ SOA ns root 1 2 3 4 5\nold DNAME {long}\n")
    found = find(zone, f"{'m' * 60}.{'m' * 10}.old.zone.test")
    assert seen(found) == ("YXDOMAIN", ["old.zone.test. DNAME"], [], [])


def test_a_chain_is_followed_so_far_and_no_farther():
    links = "".join(f"c{at} CNAME c{at + 1}\n" for at in range(20))
    found = find(zone_of("$TTL 5\n@ SOA ns root 1 2 3 4 5\n" + links), "c0.zone.test")
    assert len(found.answers) == zone_module.MAX_CHAIN + 1


def test_the_root_can_be_a_zone():
    zone = zone_of("$TTL 5\n. SOA ns. root. 1 2 3 4 5\ntest. NS ns.test.\nns.test. A 192.0.2.1\n* TXT x\n", names.ROOT)
    assert find(zone, "a.test").is_referral
    assert short(find(zone, "other", "TXT").answers) == ["other. TXT"]
    assert short(find(zone, ".", "SOA").answers) == [". SOA"]


def test_a_transfer_has_each_name_before_those_below_it(zone: Zone):
    records = [record for record in zone.records() if record is not None]
    assert records[0] == zone.name_servers[0]
    assert RRType.SOA not in {record.rtype for record in records}
    assert len(records) == len(set(records)) == len(ZONE.strip().split("\n")) - 2  # neither $TTL nor SOA
    keys = [names.labels_of(record.owner)[::-1] for record in records]
    assert keys == sorted(keys)


def test_records_that_are_none_of_the_zone_are_left_out_and_counted():
    zone = zone_of(
        ZONE + "www.other.test. A 192.0.2.1\nwww RRSIG A 8 3 60 20240101000000 20240101000000 1 zone.test. AAAA\n"
    )
    assert (zone.ignored, zone.unsigned) == (1, 1)
    assert short(find(zone, "www.zone.test", "RRSIG").answers) == []


def test_equal_records_are_one():
    zone = zone_of("$TTL 5\n@ SOA ns root 1 2 3 4 5\nwww A 192.0.2.1\nWWW A 192.0.2.1\n")
    assert len(find(zone, "www.zone.test").answers) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("www 5 A 192.0.2.1", "no SOA record for origin zone.test."),
        ("www.other.test. 5 A 192.0.2.1", "no SOA record for origin zone.test."),
        ("", "no SOA record for origin zone.test."),
    ],
)
def test_a_zone_has_an_soa_record(text: str, said: str):
    with pytest.raises(ZoneError, match=said):
        zone_of(text)


def test_a_set_of_records_no_reply_could_hold_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zone_module, "MAX_RRSET", 2)
    soa = "$TTL 5\n@ SOA ns root 1 2 3 4 5\n"
    zone_of(soa + "www A 192.0.2.1\nwww A 192.0.2.2\nwww AAAA ::1\n")
    with pytest.raises(ZoneError, match=r"more than 2 records of www\.zone\.test\. A"):
        zone_of(soa + "".join(f"www A 192.0.2.{last}\n" for last in range(3)))


def test_rendered_answers_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zone_module, "MAX_RENDERED", 3)
    zone = zone_of()
    for at in range(5):
        zone.keep(b"%d" % at, 1, EMPTY)
    assert sorted(zone.rendered) == [(b"2", 1), (b"3", 1), (b"4", 1)]
