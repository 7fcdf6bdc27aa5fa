"""Whatever the compiled path answers, the slow path answers in the same octets."""

from __future__ import annotations

import random
import struct
from functools import cache

import dns.message
import dns.rdatatype
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.dns import names
from tests.fakes.clusters import NAMESPACES, SERVICES, clusters
from tests.fakes.served import Served, serve
from tests.harness.examples import examples

COREFILES = (
    ".:53 {\n errors\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n ttl 30\n }\n"
    " loadbalance\n}\n",
    ".:53 {\n kubernetes cluster.local x.cluster.local {\n pods verified\n zonal\n endpoint_pod_names\n }\n}\n",
    "cluster.local 10.0.0.0/8 {\n errors\n loadbalance\n kubernetes {\n fallthrough svc.cluster.local\n }\n}\n",
    ".:53 {\n kubernetes cluster.local clusterset.local ip6.arpa {\n multicluster clusterset.local\n"
    " ignore empty_service\n }\n whoami\n}\nshop.svc.cluster.local {\n whoami\n}\nempty.test {\n}\n",
    ".:53 {\n errors\n autopath @kubernetes\n transfer {\n to 192.0.2.77\n }\n"
    " kubernetes cluster.local in-addr.arpa {\n pods verified\n }\n"
    " k8s_external example.org in-addr.arpa {\n ttl 7\n headless\n apex a\n }\n whoami\n}\n",
    ".:53 {\n loadbalance\n kubernetes x.cluster.local in-addr.arpa\n k8s_external cluster.local in-addr.arpa {\n"
    " fallthrough in-addr.arpa x.cluster.local\n }\n whoami\n}\n",
    ".:53 {\n kubernetes . {\n noendpoints\n fallthrough\n }\n}\n",
    ".:53 {\n errors\n loadbalance\n cache 30 {\n denial 9984 10 7\n }\n kubernetes cluster.local in-addr.arpa {\n"
    " pods insecure\n ttl 3600\n fallthrough\n }\n whoami\n}\n",
    ".:53 {\n cache {\n success 1024 60 20\n disable success cluster.local\n }\n"
    " kubernetes cluster.local x.cluster.local {\n ttl 0\n fallthrough svc.cluster.local\n }\n whoami\n}\n",
)
ZONES = ("cluster.local", "x.cluster.local", "clusterset.local", "in-addr.arpa", "ip6.arpa", "example.org", "")
LABELS = (
    *NAMESPACES, *SERVICES, "_http", "_tcp", "http", "_", "_dns", "a", "svc", "pod", "10-1-1-1", "fd00--1", "_zone",
    "pin", "prefer", "eu-1a", "dns", "ns", "dns-version", "c1", "10", "1", "web-0", "nowhere",
)  # fmt: skip
TYPES = ("A", "AAAA", "SRV", "PTR", "NS", "SOA", "TXT", "CNAME", "MX", "ANY", "DS", "HTTPS", "TYPE0", "AXFR", "OPT")

labels = st.lists(st.sampled_from(LABELS), max_size=6)
question_names = st.one_of(
    st.tuples(labels, st.sampled_from(ZONES)).map(lambda pair: ".".join([*pair[0], pair[1]])),
    st.tuples(labels, st.sampled_from(NAMESPACES), st.sampled_from(ZONES[:3])).map(
        lambda parts: ".".join([*parts[0], parts[1], "svc", parts[2]])
    ),
    st.integers(0, 41).map(lambda n: f"{n}.1.1.10.in-addr.arpa"),
)
edns = st.one_of(st.none(), st.sampled_from((0, 511, 512, 600, 1232, 4096, 65535)))
chances = st.integers(0, 2**64 - 1)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """A well-formed query in any letter case."""
    text = draw(question_names)
    if draw(st.booleans()):
        text = "".join(random.Random(draw(st.integers(0, 99))).choice((c.upper(), c)) for c in text)
    try:
        name = dns.name.from_text(text or ".")
    except dns.exception.DNSException:
        name = dns.name.root
    size = draw(edns)
    message = dns.message.make_query(
        name, draw(st.sampled_from(TYPES)), rdclass=draw(st.sampled_from(("IN",) * 9 + ("CH", "ANY")))
    )
    message.id = draw(st.integers(0, 65535))
    message.flags = draw(st.sampled_from((0, 0x0100, 0x0110, 0x01FF & ~0x0080 | 0x0200)))
    if size is not None:
        options = draw(st.lists(st.sampled_from((3, 8, 10, 11, 100)), max_size=2))
        message.use_edns(
            draw(st.sampled_from((0, 0, 0, 1))),
            draw(st.sampled_from((0, 0x8000))),
            size,
            options=[dns.edns.GenericOption(code, b"12345678") for code in options],
        )
    return message.to_wire()


@given(cluster=clusters, corefile=st.sampled_from(COREFILES), messages=st.lists(queries(), min_size=20, max_size=40),
       stream=st.booleans(), chance=chances)  # fmt: skip
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_answer_in_the_same_octets(cluster, corefile, messages, stream, chance):
    served = serve(corefile, cluster)
    for message in [*messages, *questions_of_the_table(served)]:
        outcome, reply = served.fast(message, stream=stream, chance=chance)
        slow = served.slow(message, stream=stream, chance=chance)
        if outcome != "miss":
            assert reply == slow, outcome
        if slow is not None:
            assert dns.message.from_wire(slow, ignore_trailing=False).id == struct.unpack("!H", message[:2])[0]
            assert stream or len(slow) <= 1232


@cache
def _standing_server() -> Served:
    """A cluster with something of everything, for tests that vary the message alone."""
    events = _fixed_events()
    return serve(COREFILES[0], events)


def _fixed_events() -> list:
    from kdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Port, Service, ServiceType
    from tests.fakes.clusters import event_of

    ports = (Port("http", "TCP", 80),)
    endpoints = tuple(Endpoint(bytes((10, 1, n >> 8, n & 255))) for n in range(300))
    return [
        event_of(found)
        for found in (
            Namespace("shop"),
            Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\x00\x01",), ports),
            Service("shop", "db", ServiceType.HEADLESS, (), ports),
            EndpointSlice.of("shop", "db-1", "db", ports, endpoints),
            Service("shop", "alias", ServiceType.EXTERNAL_NAME, external_name="db.shop.svc.cluster.local"),
        )
    ]


@given(message=queries(), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
       cut=st.integers(0, 80), tail=st.binary(max_size=8), stream=st.booleans(), chance=chances)  # fmt: skip
@settings(max_examples=examples(3000), deadline=None)
def test_both_paths_agree_on_damaged_messages(message, flips, cut, tail, stream, chance):
    damaged = bytearray(message)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    message = bytes(damaged[: max(0, len(damaged) - cut // 4)]) + tail
    _agree(message, stream, chance)


@given(message=st.binary(max_size=90), stream=st.booleans())
@settings(max_examples=examples(2000), deadline=None)
def test_both_paths_agree_on_noise(message, stream):
    _agree(message, stream, 0)


@given(counts=st.tuples(*[st.sampled_from((0, 0, 1, 2, 3, 65535))] * 4), tail=st.binary(max_size=40))
@settings(max_examples=examples(1000), deadline=None)
def test_both_paths_agree_whatever_the_header_counts(counts, tail):
    header = struct.pack("!HHHHHH", 7, 0x0100, *counts)
    _agree(header + names.from_text("web.shop.svc.cluster.local") + struct.pack("!HH", 1, 1) + tail, False, 0)


@given(size=st.sampled_from((512, 700, 1232)), chance=chances, qtype=st.sampled_from(("A", "SRV")),
       name=st.sampled_from(("db", "_http._tcp.db", "alias")), stream=st.booleans())  # fmt: skip
@settings(max_examples=examples(300), deadline=None)
def test_both_paths_cut_large_answers_at_the_same_records(size, chance, qtype, name, stream):
    message = dns.message.make_query(f"{name}.shop.svc.cluster.local", qtype, use_edns=0, payload=size).to_wire()
    served = _standing_server()
    outcome, reply = served.fast(message, stream=stream, chance=chance)
    if name == "alias" and qtype == "SRV":
        assert outcome == "nodata"
        return
    assert outcome == ("answer" if stream else "truncated")
    assert reply == served.slow(message, stream=stream, chance=chance)
    parsed = dns.message.from_wire(reply)
    assert bool(parsed.flags & dns.flags.TC) is not stream
    assert parsed.answer
    assert stream or size - 90 < len(reply) <= size


def _agree(message: bytes, stream: bool, chance: int) -> None:
    served = _standing_server()
    outcome, reply = served.fast(message, stream=stream, chance=chance)
    if outcome != "miss":
        assert reply == served.slow(message, stream=stream, chance=chance), outcome
    else:
        served.slow(message, stream=stream, chance=chance)


def questions_of_the_table(served: Served) -> list[bytes]:
    """A query for keys of the table, so that hits are not left to luck."""
    keys = sorted(key for key in served.builder.table.keys() if key[1])  # noqa: SIM118 - no dict
    rng = random.Random(len(keys))
    return [
        struct.pack("!HHHHHH", 99, 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", qtype, 1)
        for name, qtype, _ in rng.sample(keys, min(30, len(keys)))
    ]
