"""From a Corefile to answers: who owns a name, what the compiled path is told, and what goes wrong."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from kdns import resolver
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, ServeError
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import MISS, REFUSE, TABLE, Handler, Request, Route, Setup, Surroundings
from tests.fakes.directives import CLIENT, build, refusal_of
from tests.fakes.logs import collected
from tests.fakes.served import serve


class Says:
    """A plugin that answers a TXT record, hands on with `next`, fails with `fail`, and breaks with `break`."""

    transparent = False

    def __init__(self, text: str) -> None:
        self._text = text

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        match self._text:
            case "next":
                return await next_handler(request)
            case "fail":
                raise ServeError("no luck", 4)
            case "break":
                return _broken()
        rdata = bytes([len(self._text)]) + self._text.encode()
        return Reply(body=write_body(request.query.name, [Record(request.query.name, RRType.TXT, 1, rdata)]))


def _broken() -> Reply:
    raise KeyError("by design\nof the test")


def says(setup: Setup) -> Says:
    setup.directive.next()
    return Says(*setup.directive.remaining_args())


@pytest.fixture(autouse=True)
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directive for these tests, in the places of `template` and of `erratic`, which stands behind it."""
    monkeypatch.setitem(SETUPS, "template", says)
    monkeypatch.setitem(SETUPS, "erratic", says)


def answer(built: resolver.Resolver, name: str, rtype: str = "TXT", port: int = 53, stream: bool = False) -> str:
    """The text of the answer, or the rcode where there is none."""
    listener = next(found for found in built.listeners if found.port == port)
    coroutine = built.answer(listener, dns.message.make_query(name, rtype).to_wire(), CLIENT, stream=stream)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        reply = dns.message.from_wire(stop.value)
        assert reply.answer or not reply.flags & dns.flags.AA or reply.authority or reply.additional
        texts = [record.to_text() for rrset in reply.answer for record in rrset]
        return " ".join(texts) or dns.rcode.to_text(reply.rcode())
    raise AssertionError("nothing in these chains waits")


BLOCKS = """
.:53 {
    template root
}
example.test sub.example.test:1053 {
    template example
}
SUB.example.test {
    template sub
}
10.0.0.0/15 {
    template reverse
}
empty.test {
}
quiet.test {
    health :1
}
middle.test {
    errors
}
"""


@pytest.fixture
def blocks(template: None) -> resolver.Resolver:
    """Blocks of several kinds on two ports."""
    return build(BLOCKS)


# Blocks


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".", '"root"'),
        ("test", '"root"'),
        ("example.test", '"example"'),
        ("a.b.Example.TEST", '"example"'),
        ("xexample.test", '"root"'),
        ("sub.example.test", '"sub"'),
        ("x.sub.example.test", '"sub"'),
        ("xsub.example.test", '"example"'),
        ("1.2.0.10.in-addr.arpa", '"reverse"'),
        ("1.2.1.10.in-addr.arpa", '"reverse"'),
        ("1.2.2.10.in-addr.arpa", '"root"'),
        ("empty.test", "REFUSED"),
        ("x.empty.test", "REFUSED"),
        ("quiet.test", "REFUSED"),
        ("middle.test", "SERVFAIL"),
    ],
)
def test_the_longest_zone_owns_a_name(blocks: resolver.Resolver, name: str, expected: str):
    assert answer(blocks, name) == expected
    assert answer(blocks, name, stream=True) == expected


def test_a_name_of_no_zone_is_refused(blocks: resolver.Resolver):
    assert [(listener.port, listener.transport) for listener in blocks.listeners] == [(53, "dns"), (1053, "dns")]
    assert answer(blocks, "x.sub.example.test", port=1053) == '"example"'
    for name in (".", "example.test", "xsub.example.test"):
        assert answer(blocks, name, port=1053) == "REFUSED"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub.example.test", '"example"'),
        ("x.sub.example.test", '"example"'),
        ("example.test", '"example"'),
        ("other.test", '"root"'),
        ("empty.test", "REFUSED"),
    ],
)
def test_ds_is_asked_of_the_shortest_zone_but_the_root(blocks: resolver.Resolver, name: str, expected: str):
    assert answer(blocks, name, "DS") == expected


def test_a_key_without_a_port_has_the_default_one():
    built = build("a.test b.test:99 {\ntemplate x\n}\n", port=1053)
    assert [listener.port for listener in built.listeners] == [1053, 99]


def test_the_zones_of_a_listener_are_told_in_order():
    built = build("b.test a.test _c.test {\ntemplate x\n}\n. {\ntemplate y\n}\n")
    assert built.listeners[0].zone_texts == [
        ".:53",
        'Warning: Domain "_c.test." does not follow RFC1035 preferred syntax',
        "_c.test.:53",
        "a.test.:53",
        "b.test.:53",
    ]


# Chains


def test_directives_run_in_the_fixed_order_whatever_the_files():
    for text in ("erratic second\ntemplate next", "template next\nerratic second"):
        assert answer(build(f". {{\n{text}\n}}\n"), "a.test") == '"second"'


def test_behind_the_last_plugin_there_is_an_error():
    built = build(". {\ntemplate next\nerrors\n}\n")
    with collected() as lines:
        assert answer(built, "a.test", "AAAA") == "SERVFAIL"
    assert lines == ["[ERROR] plugin/errors: 2 a.test. AAAA: plugin/template: no next plugin found"]


def test_without_the_errors_directive_an_error_is_an_rcode_alone():
    with collected() as lines:
        assert answer(build(". {\ntemplate fail\n}\n"), "a.test") == "NOTIMP"
    assert lines == []


def test_a_plugin_that_breaks_costs_one_servfail_and_a_line_that_names_it():
    built = build(". {\nerrors\ntemplate next\nerratic break\n}\nb.test {\ntemplate fine\n}\n")
    with collected() as lines:
        assert answer(built, "a.test") == "SERVFAIL"
        assert answer(built, "b.test") == '"fine"'
    (line,) = lines
    assert line.startswith('[ERROR] Recovered from panic in server: "dns://:53" plugin/erratic: KeyError(')
    assert "\n" not in line


# Messages


def raw(built: resolver.Resolver, message: bytes) -> bytes | None:
    try:
        built.answer(built.listeners[0], message, CLIENT, stream=False).send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nothing in these chains waits")


QUESTION = b"\x01a\x04test\0\0\x10\0\x01"


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"", None),
        (bytes(11), None),
        (struct.pack("!HHHHHH", 7, 0x8100, 1, 0, 0, 0) + QUESTION, None),
        (struct.pack("!HHHHHH", 7, 0x2000, 1, 0, 0, 0) + QUESTION, dns.rcode.NOTIMP),
        (struct.pack("!HHHHHH", 7, 0x0100, 2, 0, 0, 0) + QUESTION * 2, dns.rcode.FORMERR),
        (struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + QUESTION[:-1], dns.rcode.FORMERR),
        (struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + QUESTION[:-1] + b"\x03", dns.rcode.REFUSED),
        (struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + QUESTION, dns.rcode.NOERROR),
    ],
)
def test_only_questions_of_class_in_reach_a_plugin(blocks: resolver.Resolver, message: bytes, rcode: int | None):
    reply = raw(blocks, message)
    assert (None if reply is None else (reply[:2], reply[3] & 15)) == (None if rcode is None else (message[:2], rcode))


def test_a_later_version_of_edns_is_told_the_one_spoken(blocks: resolver.Resolver):
    message = dns.message.make_query("a.test", "TXT", use_edns=1).to_wire()
    reply = raw(blocks, message)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.BADVERS


# What does not start


def test_known_directives_that_kdns_has_not_stop_the_start():
    for name in sorted(set(ORDER) - set(SETUPS)):
        error = refusal_of(f".:53 {{\nerrors\n\n{name} x\n}}\n")
        assert str(error).startswith(f"Corefile:4 - the directive '{name}' is not available in kdns yet; ")
        assert "\n" not in str(error)


@pytest.mark.parametrize(("name", "near"), [("kubernets", "kubernetes"), ("cahce", "cache"), ("zzz", None)])
def test_unknown_directives_stop_the_start_and_the_nearest_is_named(name: str, near: str | None):
    error = refusal_of(f".:53 {{\nerrors\n{name}\n}}\n")
    assert str(error) == f"Corefile:3 - Error during parsing: Unknown directive '{name}'"
    assert error.hint == (f"did you mean '{near}'?" if near else "")


@pytest.mark.parametrize(
    ("corefile", "expected"),
    [
        ("a.test A.test {\nerrors\n}\n", "cannot serve dns://a.test.:53 - it is already defined"),
        ("a.test {\n}\na.test:53 {\n}\n", "cannot serve dns://a.test.:53 - it is already defined"),
        ("a.test: {\n}\n", 'error inspecting server blocks: expecting data after last colon: "a.test:"'),
        ("tls://. {\nerrors\n}\n", "tls://.:853 - only dns:// is served; remove the key or its scheme"),
        (
            ". {\nerrors\n}\nhttps://a.test:8443 {\nerrors\n}\n",
            "https://a.test.:8443 - only dns:// is served; remove the key or its scheme",
        ),
        (". {\nwhoami x\n}\n", "plugin/whoami: Corefile:2 - Error during parsing: "
                               "Wrong argument count or unexpected line ending after 'x'"),
    ],
)  # fmt: skip
def test_corefiles_that_do_not_start(corefile: str, expected: str):
    assert str(refusal_of(corefile)) == expected


def test_a_block_is_checked_even_if_another_is_wrong_too():
    with pytest.raises(CorefileError, match="plugin/errors"):
        build("a.test {\nerrors x y\n}\nb.test {\nwhoami x\n}\n")


# Routes


def shown(route: Route) -> str:
    """A route as text: action, view, and what differs from the plainest."""
    marks = [name for name in ("rotates", "nxdomain_is_miss", "port_depth", "miss_depth") if getattr(route, name)]
    action = {MISS: "miss", REFUSE: "refuse", TABLE: f"table {route.view}"}[route.action]
    return " ".join([action, *marks])


def routes(corefile: str) -> dict[str, str]:
    listener = build(corefile).listeners[0]
    found = listener.routes()
    assert [len(route.suffix) for route in found] == sorted((len(route.suffix) for route in found), reverse=True)
    return {names.to_text(route.suffix): shown(route) for route in found}


@pytest.mark.parametrize(
    ("corefile", "expected"),
    [
        ("a.test {\n}\n. {\nwhoami\n}\n", {"a.test.": "refuse", ".": "miss"}),
        ("a.test {\nhealth\n}\n", {"a.test.": "refuse"}),
        ("a.test {\nerrors\n}\n", {"a.test.": "miss"}),
        (
            ". {\nkubernetes cluster.local in-addr.arpa\n}\n",
            {"cluster.local.": "table 0 port_depth", "in-addr.arpa.": "table 0", ".": "miss"},
        ),
        (
            ". {\nerrors\nkubernetes cluster.local\nloadbalance\n}\n",
            {"cluster.local.": "table 0 rotates port_depth", ".": "miss"},
        ),
        (
            ". {\nkubernetes cluster.local\nloadbalance {\nprefer 10.0.0.0/8\n}\n}\n",
            {".": "miss"},
        ),
        (
            ". {\ntemplate x\nkubernetes cluster.local\n}\n",
            {".": "miss"},
        ),
        (
            ". {\nkubernetes cluster.local\nerratic x\n}\n",
            {"cluster.local.": "table 0 port_depth", ".": "miss"},
        ),
        (
            ". {\nkubernetes cluster.local 10.0.0.0/8 {\n"
            "pods insecure\nfallthrough 10.1.0.0/16 other.test\nzonal\n}\n}\n",
            {
                "pod.cluster.local.": "table 0 nxdomain_is_miss port_depth miss_depth",
                "cluster.local.": "table 0 port_depth miss_depth",
                "1.10.in-addr.arpa.": "table 0 nxdomain_is_miss",
                "10.in-addr.arpa.": "table 0",
                ".": "miss",
            },
        ),
        (
            ". {\nkubernetes cluster.local {\nfallthrough\n}\n}\n",
            {"cluster.local.": "table 0 nxdomain_is_miss port_depth", ".": "miss"},
        ),
        (
            ". {\nkubernetes a.test b.test {\nmulticluster b.test\nzonal\n}\n}\n",
            {"a.test.": "table 0 port_depth miss_depth", "b.test.": "table 0 port_depth", ".": "miss"},
        ),
        (  # a block that begins in the middle of another's zone takes everything below
            "cluster.local {\nkubernetes\n}\nshop.svc.cluster.local {\nwhoami\n}\n",
            {"cluster.local.": "table 0 port_depth", "shop.svc.cluster.local.": "miss"},
        ),
        (  # the pod subtree lies in a block of its own
            "cluster.local {\nkubernetes {\npods insecure\n}\n}\npod.cluster.local {\n}\n",
            {"cluster.local.": "table 0 port_depth", "pod.cluster.local.": "refuse"},
        ),
        (  # a key below the plugin's zone, of the same block
            "cluster.local x.cluster.local {\nkubernetes cluster.local\n}\n",
            {"cluster.local.": "table 0 port_depth", "x.cluster.local.": "table 0 port_depth"},
        ),
        (
            "x.cluster.local {\nkubernetes cluster.local\n}\n",
            {"x.cluster.local.": "table 0 port_depth"},
        ),
        (  # a key below a zone below another of the plugin's zones
            "x.pod.cluster.local {\nkubernetes cluster.local {\npods insecure\n}\n}\n",
            {"x.pod.cluster.local.": "table 0 nxdomain_is_miss port_depth"},
        ),
        (
            "a.test {\nkubernetes\n}\nb.test {\nkubernetes {\nttl 30\n}\n}\n",
            {"a.test.": "table 0 port_depth", "b.test.": "table 1 port_depth"},
        ),
        (". {\nkubernetes .\n}\n", {".": "table 0 port_depth"}),
    ],
)
def test_routes(corefile: str, expected: dict[str, str]):
    assert routes(corefile) == expected


def test_each_listener_has_routes_of_its_own():
    built = build("a.test:1 b.test:2 {\nkubernetes a.test b.test\n}\n")
    assert [[names.to_text(route.suffix) for route in listener.routes()] for listener in built.listeners] == [
        ["a.test."],
        ["b.test."],
    ]


def test_ds_of_a_deeper_block_is_left_to_the_outer_one():
    served = serve("cluster.local {\nkubernetes {\nttl 7\n}\n}\nx.cluster.local {\nkubernetes {\nttl 9\n}\n}\n", [])
    for rtype, ttl in (("DS", 7), ("A", 9)):
        message = dns.message.make_query("a.x.cluster.local", rtype).to_wire()
        reply = served.any(message)
        assert reply == served.slow(message)
        assert dns.message.from_wire(reply).authority[0].ttl == ttl


# What plugins do beside serving


class Busy:
    """A plugin with work of its own, and something kept back."""

    transparent = True

    def __init__(self) -> None:
        self.flushed = 0

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        return await next_handler(request)

    async def run(self) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Count."""
        self.flushed += 1


async def test_a_block_with_several_keys_works_and_flushes_once(monkeypatch: pytest.MonkeyPatch):
    made: list[Busy] = []

    def setup(_: Setup) -> Busy:
        made.append(Busy())
        return made[-1]

    monkeypatch.setitem(SETUPS, "erratic", setup)
    built = build("a.test b.test:54 {\nerratic\n}\nc.test {\nerratic\nwhoami\n}\n")
    assert len(made) == 2
    runs = built.background()
    assert len(runs) == 2
    for run in runs:
        await run()
    built.flush()
    assert [plugin.flushed for plugin in made] == [1, 1]


def test_every_directive_there_is_has_a_place_in_the_order():
    assert SETUPS.keys() <= set(ORDER)
    assert len(ORDER) == len(set(ORDER))
    assert Surroundings().views == []
