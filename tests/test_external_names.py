"""ExternalNames: aliases whose end the whole server is asked for."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from kdns import resolver
from kdns.cluster.objects import Namespace, Port, Service, ServiceType
from kdns.dns.reply import Reply
from kdns.plugins import SETUPS
from kdns.plugins.plugin import Handler, Request, Setup
from tests.fakes.clusters import event_of
from tests.fakes.logs import collected
from tests.fakes.served import serve


class Broken:
    """A plugin that raises."""

    transparent = False

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        raise KeyError("by design")


@pytest.fixture(autouse=True)
def erratic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin, as the directive `erratic`."""

    def setup(_: Setup) -> Broken:
        return Broken()

    monkeypatch.setitem(SETUPS, "erratic", setup)


def external(name: str, target: str) -> Service:
    return Service("shop", name, ServiceType.EXTERNAL_NAME, external_name=target)


EVENTS = [
    event_of(found)
    for found in (
        Namespace("shop"),
        Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), (Port("http", "TCP", 80),)),
        external("near", "web.shop.svc.a.test"),
        external("far", "web.shop.svc.b.test"),
        external("none", "none.shop.svc.b.test"),
        external("out", "www.example.org"),
        external("broken", "x.broken.test"),
        external("refused", "x.refused.test"),
        external("two", "far.shop.svc.a.test."),
        external("ping", "pong.shop.svc.b.test"),
        external("pong", "ping.shop.svc.a.test"),
        external("itself", "itself.shop.svc.b.test"),
    )
]
A, B = "a.test {\nkubernetes\n}\n", "b.test {\nkubernetes {\nttl 60\n}\n}\n"
OTHERS = "broken.test {\nerratic\n}\nrefused.test {\n}\n"


def chase(name: str, rtype: str = "A", corefile: str = A + B + OTHERS) -> tuple[str, list[str]]:
    reply = serve(corefile, EVENTS).any(dns.message.make_query(f"{name}.shop.svc.a.test", rtype, use_edns=0).to_wire())
    assert reply is not None
    parsed = dns.message.from_wire(reply)
    assert parsed.flags & dns.flags.AA
    return dns.rcode.to_text(parsed.rcode()), [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {record}"
        for rrset in parsed.answer
        for record in rrset
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("near", ["near.shop.svc.a.test. 5 CNAME web.shop.svc.a.test.", "web.shop.svc.a.test. 5 A 10.96.0.1"]),
        ("far", ["far.shop.svc.a.test. 5 CNAME web.shop.svc.b.test.", "web.shop.svc.b.test. 60 A 10.96.0.1"]),
        (
            "two",
            [
                "two.shop.svc.a.test. 5 CNAME far.shop.svc.a.test.",
                "far.shop.svc.a.test. 5 CNAME web.shop.svc.b.test.",
                "web.shop.svc.b.test. 60 A 10.96.0.1",
            ],
        ),
        ("none", ["none.shop.svc.a.test. 5 CNAME none.shop.svc.b.test."]),
        ("out", ["out.shop.svc.a.test. 5 CNAME www.example.org."]),
        ("refused", ["refused.shop.svc.a.test. 5 CNAME x.refused.test."]),
        ("itself", ["itself.shop.svc.a.test. 5 CNAME itself.shop.svc.b.test."]),
    ],
)
def test_an_external_name_is_asked_of_the_whole_server(name: str, expected: list[str]):
    assert chase(name) == ("NOERROR", expected)


def test_an_external_name_without_the_family_asked_for_is_an_alias_alone():
    assert chase("far", "AAAA") == ("NOERROR", ["far.shop.svc.a.test. 5 CNAME web.shop.svc.b.test."])


def test_an_alias_asked_for_as_such_is_not_followed():
    assert chase("far", "CNAME") == ("NOERROR", ["far.shop.svc.a.test. 5 CNAME web.shop.svc.b.test."])
    assert chase("far", "TXT") == ("NOERROR", [])


def test_a_plugin_that_breaks_at_the_end_of_an_alias_leaves_the_alias():
    with collected() as lines:
        assert chase("broken") == ("NOERROR", ["broken.shop.svc.a.test. 5 CNAME x.broken.test."])
    assert len(lines) == 1


def test_aliases_that_lead_in_a_circle_through_other_zones_end(monkeypatch: pytest.MonkeyPatch):
    asked = []
    ask = resolver._resolve

    async def counted(listener: resolver.Listener, request: Request) -> Reply:
        asked.append(request.depth)
        return await ask(listener, request)

    monkeypatch.setattr(resolver, "_resolve", counted)
    assert chase("ping") == (
        "NOERROR",
        ["ping.shop.svc.a.test. 5 CNAME pong.shop.svc.b.test.", "pong.shop.svc.b.test. 60 CNAME ping.shop.svc.a.test."],
    )
    assert asked == list(range(resolver.MAX_DEPTH + 2))
