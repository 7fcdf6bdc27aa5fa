"""Zone transfers: who may have them, what is in them, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator

import dns.message
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from kdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Port, Service, ServiceType
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.plugins.plugin import Surroundings, ZoneTransfer
from kdns.plugins.transfer.outgoing import MAX_TRANSFERS, MESSAGE_OCTETS, Stanza, Transfer
from tests.fakes.clusters import event_of
from tests.fakes.directives import refused
from tests.fakes.logs import collected
from tests.fakes.served import CLIENT, Served, serve

PORTS = (Port("http", "TCP", 80), Port("", "TCP", 81))
OBJECTS = (
    Namespace("shop"),
    Namespace("hidden"),
    Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), PORTS, "", ("203.0.113.1", "203.0.113.2")),
    Service("shop", "db", ServiceType.HEADLESS, (), PORTS),
    EndpointSlice.of("shop", "s1", "db", PORTS, (Endpoint(b"\x0a\1\1\2", "a"), Endpoint(b"\x0a\1\1\3"))),
    EndpointSlice.of("shop", "s2", "web", PORTS, (Endpoint(b"\x0a\1\1\4"),)),
    Service("shop", "ext", ServiceType.EXTERNAL_NAME, external_name="www.example.org"),
)
SERIAL = 1_700_000_000


def cluster(transfer: str = "to *", zones: str = "cluster.local in-addr.arpa", *more: str) -> Served:
    return serve(
        f".:53 {{\nkubernetes {zones} {{\nttl 30\nnamespaces shop\n}}\n{chr(10).join(more)}\n"
        f"transfer {{\n{transfer}\n}}\n}}\n",
        [event_of(found) for found in OBJECTS],
    )


def question(zone: str, rtype: str = "AXFR", serial: int | None = None) -> bytes:
    message = dns.message.make_query(zone, rtype)
    if serial is not None:
        soa = f"{zone}. 0 IN SOA . . {serial} 0 0 0 0"
        message.authority.append(dns.rrset.from_text(*soa.split(" ", 4)))
    return message.to_wire()


async def messages_of(served: Served, asked: bytes) -> list[bytes]:
    """All that is sent for a message over TCP."""
    reply = await served.resolver.answer_stream(served.resolver.listeners[0], asked, CLIENT)
    if reply is None or isinstance(reply, bytes):
        return [] if reply is None else [reply]
    return [message async for message in reply]


def transferred(served: Served, zone: str, rtype: str = "AXFR", serial: int | None = None) -> list[str]:
    """The records of all messages, or the rcode."""
    lines = []
    for wire in asyncio.run(messages_of(served, question(zone, rtype, serial))):
        message = dns.message.from_wire(wire, one_rr_per_rrset=True)
        if message.rcode():
            return [dns.rcode.to_text(message.rcode())]
        lines += [rrset.to_text() for rrset in message.answer]
    return lines


SOA = f"cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. {SERIAL} 7200 1800 86400 30"


def test_a_cluster_zone_begins_and_ends_with_its_soa_record():
    found = transferred(cluster(), "cluster.local")
    assert (found[0], found[-1], found.count(SOA)) == (SOA, SOA, 2)
    assert found[1:-1] == [
        "cluster.local. 30 IN NS ns.dns.cluster.local.",
        "ns.dns.cluster.local. 0 IN A 10.1.1.1",
        "db.shop.svc.cluster.local. 30 IN A 10.1.1.2",
        "a.db.shop.svc.cluster.local. 30 IN A 10.1.1.2",
        "_http._tcp.db.shop.svc.cluster.local. 30 IN SRV 0 50 80 a.db.shop.svc.cluster.local.",
        "db.shop.svc.cluster.local. 30 IN A 10.1.1.3",
        "10-1-1-3.db.shop.svc.cluster.local. 30 IN A 10.1.1.3",
        "_http._tcp.db.shop.svc.cluster.local. 30 IN SRV 0 50 80 10-1-1-3.db.shop.svc.cluster.local.",
        "ext.shop.svc.cluster.local. 30 IN CNAME www.example.org.",
        "web.shop.svc.cluster.local. 30 IN A 10.96.0.1",
        "web.shop.svc.cluster.local. 30 IN SRV 0 100 80 web.shop.svc.cluster.local.",
        "_http._tcp.web.shop.svc.cluster.local. 30 IN SRV 0 100 80 web.shop.svc.cluster.local.",
        "web.shop.svc.cluster.local. 30 IN SRV 0 100 81 web.shop.svc.cluster.local.",
    ]


def test_a_reverse_zone_has_the_pointers():
    found = transferred(cluster(), "in-addr.arpa")
    assert sorted(line for line in found if " PTR " in line) == [
        "1.0.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local.",
        "2.1.1.10.in-addr.arpa. 30 IN PTR a.db.shop.svc.cluster.local.",
        "3.1.1.10.in-addr.arpa. 30 IN PTR 10-1-1-3.db.shop.svc.cluster.local.",
        "4.1.1.10.in-addr.arpa. 30 IN PTR 10-1-1-4.web.shop.svc.cluster.local.",
    ]


def test_an_external_zone_gives_each_address_all_the_weight():
    found = transferred(cluster("to *", "cluster.local", "k8s_external example.com {\nheadless\n}"), "example.com")
    assert "web.shop.example.com. 30 IN SRV 0 100 80 web.shop.example.com." in found
    assert "_http._tcp.db.shop.example.com. 30 IN SRV 0 50 80 a.db.shop.example.com." in found
    assert "a.db.shop.example.com. 5 IN A 10.1.1.2" in found
    assert not [line for line in found if line.startswith(("_http._tcp", "_._tcp")) and " A " in line]
    assert not [line for line in found if "10-1-1-4" in line]
    assert found[0] == found[-1]


def test_a_change_is_in_the_next_transfer():
    served = cluster()
    store = served.stores[0]
    store.apply(event_of(Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\x09",))))
    served.builder.publish(0, store.take_changes())
    found = transferred(served, "cluster.local")
    assert [line for line in found if line.startswith("web.")] == ["web.shop.svc.cluster.local. 30 IN A 10.96.0.9"]


def test_an_incremental_transfer_is_a_whole_one_or_the_soa_record_alone():
    served = cluster()
    whole = transferred(served, "cluster.local")
    assert transferred(served, "cluster.local", "IXFR", SERIAL) == [SOA]
    assert transferred(served, "cluster.local", "IXFR", SERIAL - 1) == whole
    assert transferred(served, "cluster.local", "IXFR") == ["SERVFAIL"]


@pytest.mark.parametrize(
    ("transfer", "zone", "said"),
    [
        ("to 192.0.2.7", "cluster.local", "REFUSED"),
        ("to *", "shop.svc.cluster.local", "REFUSED"),  # CoreDNS would root the zone there
        ("to *", "example.net", "SERVFAIL"),
    ],
)
def test_what_nobody_may_have_or_has_is_refused(transfer: str, zone: str, said: str):
    assert transferred(cluster(transfer), zone) == [said]


def test_the_listed_may_have_it_whatever_their_port():
    assert len(transferred(cluster(f"to 192.0.2.9 {CLIENT[0]}:5353"), "cluster.local")) > 3


def test_over_udp_it_is_refused():
    reply = cluster().any(question("cluster.local"))
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED


def test_without_the_directive_it_is_refused_and_no_note_is_kept():
    served = serve(".:53 {\nkubernetes cluster.local\n}\n", [event_of(found) for found in OBJECTS])
    assert transferred(served, "cluster.local") == ["REFUSED"]
    keys = served.builder.table.keys()
    assert not [name for name, _, _ in keys if name[0] > 63]


def test_other_questions_pass():
    served = cluster()
    wire = dns.message.make_query("web.shop.svc.cluster.local", "A").to_wire()
    assert served.fast(wire) == ("answer", served.slow(wire))


def test_the_end_of_a_transfer_is_told():
    with collected() as lines:
        found = transferred(cluster(), "cluster.local")
    text = f'Outgoing transfer of {len(found)} records of zone "cluster.local." to {CLIENT[0]} for {SERIAL} SOA serial'
    assert f"[INFO] plugin/transfer: {text}" in "\n".join(lines)


def test_dnspython_takes_a_transfer_for_a_zone():
    found = [dns.message.from_wire(wire, xfr=True) for wire in
             asyncio.run(messages_of(cluster(), question("cluster.local")))]  # fmt: skip
    lines = [rrset.to_text() for message in found for rrset in message.answer]
    zone = dns.zone.from_text("\n".join(lines[:-1]), origin="cluster.local.", relativize=False, check_origin=False)
    assert zone.get_rdataset("web.shop.svc.cluster.local.", dns.rdatatype.A) is not None


# Large ones

ZONE = names.from_text("big.test")
APEX = Record(ZONE, RRType.SOA, 5, b"\0\0" + struct.pack("!IIIII", 1, 2, 3, 4, 5))


class BigZone:
    """A plugin with one zone of any size, that notes how far it was read."""

    transparent = False
    zones = (ZONE,)

    def __init__(self, records: int) -> None:
        self.read = 0
        self._records = records

    def transfer(self, zone: bytes) -> ZoneTransfer | None:
        return ZoneTransfer(APEX, 1, self._all()) if zone == ZONE else None

    def _all(self) -> Iterator[Record | None]:
        for number in range(self._records):
            self.read = number
            if number % 100 == 99:
                yield None
            yield Record(b"\x06" + b"%06d" % number + ZONE, RRType.A, 5, bytes((10, 0, 0, 1)))


async def begin(plugin: Transfer) -> tuple[int, AsyncIterator[object]]:
    """Ask for the big zone: the octets of the first message, and what follows."""
    from tests.fakes.directives import request

    async def nobody(_: object) -> object:
        raise AssertionError("handed on")

    reply = await plugin.serve(request("big.test", "AXFR", stream=True), nobody)  # type: ignore[arg-type]
    assert reply.more is not None
    return len(reply.body.octets), reply.more


def big(records: int) -> tuple[Transfer, BigZone]:
    plugin = Transfer([Stanza((ZONE,), (), is_open=True)], Surroundings())
    zone = BigZone(records)
    plugin.connect({"big": zone})  # type: ignore[dict-item]
    return plugin, zone


def test_a_big_zone_is_read_no_further_than_it_is_sent():
    async def run() -> None:
        plugin, zone = big(100_000)
        size, more = await begin(plugin)
        assert MESSAGE_OCTETS <= size < MESSAGE_OCTETS + 600
        assert zone.read < 2000
        await anext(more)
        assert zone.read < 4000
        await more.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_others_are_served_while_a_transfer_is_made():
    async def run() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        plugin, _ = big(20_000)
        task = asyncio.create_task(others())
        _, more = await begin(plugin)
        messages = 1 + len([body async for body in more])
        task.cancel()
        assert messages > 20
        assert turns > 100

    asyncio.run(run())


def test_transfers_beyond_the_limit_fail_until_one_has_ended():
    async def run() -> None:
        plugin, _ = big(5000)
        under_way = [(await begin(plugin))[1] for _ in range(MAX_TRANSFERS)]
        with pytest.raises(ServeError, match="under way") as refusal:
            await begin(plugin)
        assert refusal.value.rcode == Rcode.SERVFAIL
        await under_way.pop().aclose()  # type: ignore[attr-defined]
        _, more = await begin(plugin)
        for left in (*under_way, more):
            await left.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


# Options


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "Corefile:2 - Error during parsing: 'to' is required"),
        ("{\nto\n}", "Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'to'"),
        ("{\nto ns.example\n}", "must specify an IP address: `ns.example'"),
        ("{\nto 192.0.2.1:x\n}", "must specify an IP address: `192.0.2.1:x'"),
        ("{\nto *\nsource here\n}", "Corefile:4 - Error during parsing: source: met 'here', expected an IP address"),
        ("{\nfrom *\n}", 'Corefile:3 - Error during parsing: unknown property "from"'),
    ],
)
def test_options_that_are_wrong_are_refused(body: str, said: str):
    assert refused(f"transfer {body}") == f"plugin/transfer: {said}"


@pytest.mark.parametrize("peer", ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353"])
def test_peers_may_have_ports(peer: str):
    assert len(transferred(cluster(f"to {peer} *"), "cluster.local")) > 3
