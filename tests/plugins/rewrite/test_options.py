"""`rewrite` lines that are refused, in CoreDNS's words."""

from __future__ import annotations

import pytest

from tests.fakes.directives import refused, set_up


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "no rule type specified for rewrite"),
        ("colour a b", 'invalid rule type "colour"'),
        ("stop", "stop rule must begin with a rule type"),
        ("continue", "continue rule must begin with a rule type"),
        ("stop colour a b", 'invalid rule type "stop"'),
        ("answer name a b", "response rewrites must begin with a name rule"),
        ("name", "too few arguments for a name rule"),
        ("name a.com", "too few arguments for a name rule"),
        ("name a.com b.com c.com",
         "name rule supports only exact, prefix, suffix, substring, and regex name matching, received: a.com"),
        ("name regex ([a]\\.com b", "invalid regex matching pattern: ([a]\\.com"),
        ("name regex a {1}.b", "the rewrite regex pattern ({1}.b) uses more subexpressions than its corresponding "
         "matching regex pattern (a)"),
        ("name regex a b answer", "invalid arguments for regex rule"),
        ("name regex a b c d", "exceeded the number of arguments for a non-answer rule argument for regex rule"),
        ("name regex a b answer ttl c d", 'invalid type "ttl" for answer rule for regex rule'),
        ("name regex a b answer name c", "name answer rule for regex rule: 2 arguments required"),
        ("name regex a b answer value c", "value answer rule for regex rule: 2 arguments required"),
        ("name regex a b answer auto answer", "type missing for answer rule for regex rule"),
        ("name regex a b answer name ( d", "name answer rule for regex rule: invalid regex matching pattern: ("),
        ("name suffix a b answer auto name c d",
         "auto name answer rule cannot be combined with explicit name anwer rules"),
        ("type any", "type rules must have exactly two arguments"),
        ("type any a a", "type rules must have exactly two arguments"),
        ("type XY A", 'invalid type "XY"'),
        ("class in", "class rules must have exactly two arguments"),
        ("class IN WV", 'invalid class "WV"'),
        ("ttl a.test", "too few (1) arguments for a ttl rule"),
        ("ttl a.test 10-x", "invalid TTL '10-x' for a ttl rule"),
        ("ttl a.test -", "invalid TTL '-' for a ttl rule"),
        ("ttl a.test 20-10", "invalid TTL '20-10' for a ttl rule"),
        ("ttl a.test 4294967296", "invalid TTL '4294967296' for a ttl rule"),
        ("ttl exact a.test 10 20", "invalid TTL '' for a ttl rule"),
        ("ttl like a.test 10", "ttl rule supports only exact, prefix, suffix, substring, and regex name matching"),
        ("ttl regex ( 10", "invalid regex pattern in a ttl rule: ("),
        ("rcode a.test 2", "too few (2) arguments for a rcode rule"),
        ("rcode a.test NOPE 0", "invalid matching RCODE 'NOPE' for a rcode rule"),
        ("rcode a.test 2 24", "invalid replacement RCODE '24' for a rcode rule"),
        ("rcode like a.test 2 0", "rcode rule supports only exact, prefix, suffix, substring, and regex name matching"),
        ("cname a", "too few (1) arguments for a cname rule"),
        ("cname like a b", "unknown cname rewrite type: like"),
        ("cname regex ( b", "invalid cname rewrite regex pattern: error parsing regexp: missing closing ): `(`"),
        ("edns0 local", "too few arguments for an EDNS0 rule"),
        ("edns0 local change 0xffee x", 'invalid action: "change"'),
        ("edns0 colour set 1 2", 'invalid rule type "colour"'),
        ("edns0 local set 0xffee", "EDNS0 local rules require three or four args"),
        ("edns0 local set x y", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("edns0 local set 65536 y", 'strconv.ParseUint: parsing "65536": value out of range'),
        ("edns0 local set 0xffee 0xabcdefg", "encoding/hex: invalid byte: U+0067 'g'"),
        ("edns0 local set 0xffee 0xabc", "encoding/hex: odd length hex string"),
        ("edns0 local set 0xffee {dummy}", 'unsupported variable name "{dummy}"'),
        ("edns0 nsid set junk", "EDNS0 NSID rules can accept no more than one arg"),
        ("edns0 subnet set 24", "EDNS0 subnet rules require three or four args"),
        ("edns0 subnet set 33 56", "invalid IPv4 bit mask length 33"),
        ("edns0 subnet set 24 129", "invalid IPv6 bit mask length 129"),
        ("edns0 local unset", "local unset action requires exactly two arguments"),
        ("edns0 nsid unset x", "nsid unset action requires exactly one argument"),
        ("edns0 subnet unset x", "subnet unset action requires exactly one argument"),
    ],
)  # fmt: skip
def test_refused(words: str, complaint: str):
    assert refused(f"rewrite {words}") == f"plugin/rewrite: {complaint}"


@pytest.mark.parametrize("words", ["name regex {} b", "ttl regex {} 10", "rcode regex {} 2 0", "cname regex {} b"])
def test_an_expression_over_ten_thousand_characters_is_refused(words: str):
    field = words.split()[0]
    within = "" if field == "name" else f" in a {field} rule"
    assert refused("rewrite " + words.format("a" * 10_001)) == (
        f"plugin/rewrite: regex pattern too long{within}: 10001 > 10000"
    )


@pytest.mark.parametrize(
    "words",
    [
        "name a.com b.com",
        "name regex (adns)\\.(core) {2}.{1} answer name (core)\\.(adns) {2}.{1}",
        "name substring fcore.dns.rocks dns.fcore.rocks answer name (fcore)\\.(dns) {2}.{1}",
        "continue type any a",
        "stop class ch in",
        "edns0 local set 65518 abcdefg",
        "edns0 local replace 0xffee {client_ip}",
        "edns0 local append 0xffee {some-plugin/some-label}",
        "edns0 local set 0xffee 0x61 revert",
        "edns0 nsid append revert",
        "edns0 subnet append 24 56 revert",
        "edns0 subnet unset",
        "rcode regex (.*)\\.coredns\\.rocks 2 0",
        "cname exact a b",
    ],
)
def test_accepted(words: str):
    assert set_up(f"rewrite {words}") is not None
