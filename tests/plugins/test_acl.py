"""`acl`: what becomes of whose questions."""

from __future__ import annotations

import dns.message
import pytest

from kdns.dns.query import Edns
from kdns.dns.reply import Reply, render
from kdns.errors import Dropped
from kdns.plugins.plugin import Surroundings
from tests.fakes.directives import answering, query, refused, request, set_up

INSIDE, OUTSIDE = "10.1.2.3", "10.9.9.9"


async def outcome(
    directive: str,
    client: str = INSIDE,
    name: str = "a.test",
    rtype: str = "A",
    surroundings: Surroundings | None = None,
) -> str:
    plugin = set_up(directive, surroundings, zones=("test",))
    handed_on = Reply(writer="next")

    async def answer(_: object) -> Reply:
        return handed_on

    try:
        reply = await plugin.serve(request(name, rtype, (client, 1)), answer)
    except Dropped:
        return "drop"
    return "allow" if reply is handed_on else {5: "block", 0: "filter"}[reply.rcode]


def acl(*policies: str, zones: str = "") -> str:
    return f"acl {zones} {{\n" + "\n".join(policies) + "\n}"


@pytest.mark.parametrize("action", ["allow", "block", "filter", "drop", "BLOCK"])
async def test_a_policy_is_for_its_networks(action: str):
    assert await outcome(acl(f"{action} net 10.1.0.0/16")) == action.lower()
    assert await outcome(acl(f"{action} net 10.1.0.0/16"), OUTSIDE) == "allow"
    assert await outcome(acl(f"{action} net 10.2.0.0/16 10.1.2.3")) == action.lower()


async def test_a_policy_is_for_its_types():
    assert await outcome(acl("block type A AAAA"), rtype="AAAA") == "block"
    assert await outcome(acl("block type A AAAA"), rtype="TXT") == "allow"
    assert await outcome(acl("block type ANY"), rtype="TXT") == "allow"
    assert await outcome(acl("block type A net 10.1.0.0/16 type TXT"), rtype="TXT") == "block"


@pytest.mark.parametrize(
    "policy", ["block", "block type *", "block net *", "block type * net *", "block type A * net *"]
)
async def test_an_asterisk_or_nothing_is_everything(policy: str):
    assert await outcome(acl(policy), rtype="MX") == "block"
    assert await outcome(acl(policy), "2001:db8::1", rtype="MX") == "block"


async def test_the_first_policy_that_meets_decides():
    policies = ("allow net 10.1.2.0/24", "block net 10.1.0.0/16", "filter net 10.1.0.0/16")
    assert await outcome(acl(*policies)) == "allow"
    assert await outcome(acl(*policies), "10.1.3.1") == "block"
    assert await outcome(acl(*policies), OUTSIDE) == "allow"


async def test_the_next_rule_is_asked_where_no_policy_meets():
    directive = acl("filter net 10.9.0.0/16", zones="test") + "\n" + acl("block", zones="a.test")
    assert await outcome(directive) == "block"
    assert await outcome(directive, OUTSIDE) == "filter"
    assert await outcome(directive, name="b.test") == "allow"


async def test_what_is_allowed_by_one_rule_is_not_refused_by_the_next():
    assert await outcome(acl("allow net 10.1.0.0/16") + "\n" + acl("block")) == "allow"


async def test_without_zones_it_is_for_those_of_the_block():
    assert await outcome(acl("block"), name="a.other") == "allow"
    assert await outcome(acl("block", zones="other a.test"), name="x.a.test") == "block"


async def test_ipv6_clients_are_matched_too():
    assert await outcome(acl("block net 2001:db8::/32"), "2001:db8::53") == "block"
    assert await outcome(acl("block net 2001:db8::53"), "2001:db8::54") == "allow"
    assert await outcome(acl("block net fe80::/10"), "fe80::1%eth0") == "block"


@pytest.mark.parametrize(("policy", "rcode", "code"), [("block", 5, 15), ("filter", 0, 17)])
@pytest.mark.parametrize("edns", [None, Edns(1232, 0, False)])
async def test_who_is_refused_learns_why_even_without_edns(policy: str, rcode: int, code: int, edns: Edns | None):
    asked = query("a.test", edns=edns)
    reply = await set_up(acl(policy), zones=("test",)).serve(request(), answering())
    parsed = dns.message.from_wire(render(asked, reply, stream=False, chance=0))
    assert (parsed.rcode(), parsed.answer, parsed.authority) == (rcode, [], [])
    assert not parsed.flags & dns.flags.AA
    assert parsed.ednsflags & dns.flags.DO
    assert [(option.otype, option.code) for option in parsed.options] == [(15, code)]


async def test_everything_is_counted():
    surroundings = Surroundings()
    directive = acl("block net 10.1.0.0/16", "filter net 10.2.0.0/16", "drop net 10.3.0.0/16", zones="test")
    for client, times in (("10.1.0.1", 1), ("10.2.0.1", 2), ("10.3.0.1", 3), ("10.4.0.1", 4)):
        for _ in range(times):
            await outcome(directive, client, surroundings=surroundings)
    families = surroundings.metrics.families
    for kind, times in (("blocked", 1), ("filtered", 2), ("dropped", 3)):
        assert families[f"coredns_acl_{kind}_requests_total"].total(("dns://:53", "test.", "")) == times
    assert families["coredns_acl_allowed_requests_total"].total(("dns://:53", "")) == 4


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("deny", "unexpected token \"deny\"; expect 'allow', 'block', 'filter' or 'drop'"),
        ("block nets 10.0.0.0/8", "unexpected token \"nets\"; expect 'type | net'"),
        ("block type", 'no token specified in "type" section'),
        ("block net type A", 'no token specified in "net" section'),
        ("block type a", 'unexpected token "a"; expect legal QTYPE'),
        ("block net 10.0.0.0/33", 'illegal CIDR notation "10.0.0.0/33"'),
        ("block net 10.0.0", 'illegal CIDR notation "10.0.0/32"'),
        ("block net x::y", 'illegal CIDR notation "x::y/128"'),
    ],
)
def test_mistakes_are_refused_in_coredns_words(policy: str, text: str):
    assert refused(acl(policy)) == f"plugin/acl: Corefile:3 - Error during parsing: {text}"
