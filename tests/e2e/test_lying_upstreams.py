"""Upstreams that lie, and upstreams that are odd: what a client sees, what it costs, and that nothing false is kept."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.flags
import dns.rcode
import pytest

from tests.e2e.forwarding import Client, forward_block, serving
from tests.fakes.apiserver.certificates import make_authority, make_server_certificate
from tests.fakes.lies import FALSE, LIES, TRUE, Script, before_the_truth, nothing_but, once, raw, record
from tests.fakes.upstream import Seen, Upstream, in_thread, silent
from tests.harness.exchange import TCP, TRANSPORTS, frame

MAX_PACKETS = 3  # to upstreams for one query, whatever comes back
READ_TIMEOUT = 0.4  # seconds
SOA = "test. 60 IN SOA ns.test. root.test. 1 7200 1800 86400 60"
OPTIONS = (f"read_timeout {round(1000 * READ_TIMEOUT)}ms", "max_fails 0")


@dataclass(slots=True)
class Site:
    """The server, and the upstream that does as `script` says."""

    client: Client
    upstream: Upstream
    script: Script

    def packets(self, name: str) -> int:
        """What a name has cost so far."""
        return sum(seen.name.lower() == name.lower() for seen in self.upstream.seen)


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory, script = tmp_path_factory.mktemp("lied-to"), Script()
    authority = make_authority(directory / "ca")
    certificate = make_server_certificate(directory / "upstream", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with in_thread(Upstream(script)) as upstream, in_thread(Upstream(script, tls=context)) as secure:
        secure.seen = upstream.seen
        tls = (f"tls {authority.certificate}", "tls_servername localhost", *OPTIONS)
        corefile = (
            forward_block(upstream.port, options=OPTIONS)
            + forward_block(upstream.port, zone="tcp.test", options=("force_tcp", *OPTIONS))
            + forward_block(upstream.port, zone="both.test", options=("prefer_udp", *OPTIONS))
            + forward_block(f"tls://127.0.0.1:{secure.port}", zone="tls.test", options=tls)
            + forward_block(upstream.port, zone="plain.test", options=OPTIONS, before=())
        )
        with serving(directory, corefile) as client:
            yield Site(client, upstream, script)


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    """The site, which must be well afterwards."""
    yield whole_site
    whole_site.upstream.on_stream = None
    whole_site.upstream.close_streams()
    whole_site.client.assert_well()


def name_of(text: str, zone: str = "test.") -> str:
    """A name for one case."""
    return f"{text.replace(' ', '-').replace(chr(39), '')}.{zone}"


# What is no answer


@pytest.mark.parametrize("zone", ["test.", "plain.test.", "tcp.test.", "tls.test."])
@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_answer_is_discarded_and_the_answer_waited_for(site: Site, lie: str, zone: str) -> None:
    name = name_of(lie, "before." + zone)
    site.script.say(name, before_the_truth(LIES[lie]))
    assert site.client.says(name) == TRUE
    assert site.packets(name) == 1
    assert site.client.says(name, transport=TCP) == TRUE
    assert site.packets(name) == (2 if zone == "plain.test." else 1)  # where there is no cache
    assert site.client.says(f"sub.{name}") == TRUE


@pytest.mark.parametrize("lie", LIES)
def test_an_upstream_that_only_lies_costs_three_packets_and_nothing_of_it_is_kept(site: Site, lie: str) -> None:
    name = name_of(lie, "only.test.")
    site.script.say(name, nothing_but(LIES[lie]))
    assert site.client.says(name) == "SERVFAIL"
    assert site.packets(name) <= MAX_PACKETS
    assert site.client.seconds < MAX_PACKETS * READ_TIMEOUT + 1
    before = site.packets(name)
    assert site.client.says(name, transport=TCP) == "SERVFAIL"
    assert site.packets(name) <= before + MAX_PACKETS
    site.script.forget(name)
    assert site.client.says(name) == TRUE


@pytest.mark.parametrize("lie", ["another id", "another name", "garbage"])
def test_whoever_guesses_too_often_makes_the_query_go_over_tcp(site: Site, lie: str) -> None:
    name = name_of(lie, "often.test.")

    def answer(seen: Seen) -> Sequence[bytes]:
        if seen.transport == TCP:
            return [seen.address(TRUE)]
        return [LIES[lie](seen)] * 5 + [seen.address(FALSE)]

    site.script.say(name, answer)
    assert site.client.says(name) == TRUE
    assert site.packets(name) == 2


def test_what_comes_from_another_port_is_not_heard(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        liar.send(seen.address(FALSE), seen.client)
        return [seen.address(TRUE)]

    with in_thread(Upstream(silent)) as liar:
        site.script.say("elsewhere.test.", answer)
        assert site.client.says("elsewhere.test.") == TRUE
    assert site.packets("elsewhere.test.") == 1


# What is odd, but an answer


def test_records_of_other_names_are_kept_under_no_name_but_the_one_asked_for(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        made = seen.reply(f"{seen.name} 60 IN A {TRUE}", f"victim.test. 9999 IN A {FALSE}", f"test. 9999 IN A {FALSE}")
        other = seen.reply(f"victim.test. 9999 IN A {FALSE}", "victim.test. 9999 IN NS evil.test.")
        made.authority, made.additional = other.answer[1:], other.answer[:1]
        return [made.to_wire()]

    site.script.say("generous.test.", answer)
    assert TRUE in site.client.says("generous.test.")
    for name in ("victim.test.", "test.", "evil.test."):
        assert site.client.says(name) == TRUE
        assert site.packets(name) == 1


def test_another_spelling_in_the_reply_is_an_answer_and_clients_see_their_own(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        wire = seen.address()
        question = seen.question
        return [wire[:12] + question[:-4].swapcase() + question[-4:] + wire[12 + len(question) :]]

    site.script.say("spelled.test.", answer)
    for name in ("SpElLeD.TeSt.", "spelled.test.", "SPELLED.TEST."):
        assert site.client.says(name) == TRUE
    assert site.packets("spelled.test.") == 1


@pytest.mark.parametrize("kind", ["with records", "without records"])
def test_what_is_truncated_is_handed_on_and_never_kept(site: Site, kind: str) -> None:
    name = name_of(kind, "cut.test.")

    def answer(seen: Seen) -> Sequence[bytes]:
        lines = [f"{seen.name} 60 IN A 192.0.2.{number}" for number in range(1, 9)]
        if seen.transport == TCP:
            return [seen.reply(*lines).to_wire()]
        return [seen.reply(*(lines[:3] if kind == "with records" else ()), tc=True).to_wire()]

    site.script.say(name, answer)
    for asked in (1, 2):
        assert site.client.ask(name).flags & dns.flags.TC
        assert site.packets(name) == asked
    assert len(site.client.says(name, transport=TCP).split()) == 8
    assert len(site.client.says(name).split()) == 8
    assert site.packets(name) == 3


def test_prefer_udp_asks_for_the_rest_over_tcp(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.address() if seen.transport == TCP else seen.reply(tc=True).to_wire()]

    site.script.say("cut.both.test.", answer)
    assert site.client.says("cut.both.test.") == TRUE
    assert site.packets("cut.both.test.") == 2


@pytest.mark.parametrize(
    ("ttl", "expected"), [(0, 5), (1, 5), (60, 60), (1 << 31, 5), ((1 << 32) - 1, 5), ((1 << 31) - 1, 3600)]
)
def test_ttls_are_kept_within_bounds(site: Site, ttl: int, expected: int) -> None:
    name = f"ttl-{ttl}.test."
    site.script.say(name, lambda seen: [raw(seen, record(data=bytes((192, 0, 2, 1)), ttl=ttl))])
    for _ in range(2):
        (rrset,) = site.client.ask(name).answer
        assert expected - 2 <= rrset.ttl <= expected
    assert site.packets(name) == 1


@pytest.mark.parametrize(
    ("rcode", "has_soa", "is_kept"),
    [
        ("NXDOMAIN", True, True), ("NXDOMAIN", False, False), ("SERVFAIL", False, True), ("SERVFAIL", True, True),
        ("REFUSED", False, False), ("REFUSED", True, False), ("FORMERR", False, False), ("NOTIMP", False, True),
        ("NOERROR", True, True), ("YXDOMAIN", False, False),
    ],
)  # fmt: skip
def test_replies_without_an_answer_reach_the_client_and_are_kept_where_they_may(
    site: Site, rcode: str, has_soa: bool, is_kept: bool
) -> None:
    name = f"{rcode.lower()}-{has_soa}.test."

    def answer(seen: Seen) -> Sequence[bytes]:
        made = seen.reply(rcode=dns.rcode.from_text(rcode))
        if has_soa:
            made.authority = seen.reply(SOA).answer
        return [made.to_wire()]

    site.script.say(name, answer)
    for _ in range(2):
        reply = site.client.ask(name)
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert not reply.answer
        assert len(reply.authority) == has_soa
    assert site.packets(name) == (1 if is_kept else 2)


def test_an_answer_said_a_hundred_times_is_one_answer(site: Site) -> None:
    for number in range(30):
        name = f"n{number}.again.test."
        site.script.say(name, lambda seen: [seen.address()] * 100)
        assert site.client.says(name) == TRUE
        assert site.packets(name) == 1


def test_an_answer_that_is_late_but_in_time_costs_one_packet(site: Site) -> None:
    async def answer(seen: Seen) -> Sequence[bytes]:
        await asyncio.sleep(READ_TIMEOUT / 2)
        return [seen.address()]

    site.script.say("slow.test.", answer)
    assert site.client.says("slow.test.") == TRUE
    assert site.packets("slow.test.") == 1


def test_a_packet_that_is_lost_is_sent_again(site: Site) -> None:
    site.script.say("lost.test.", once(silent))
    assert site.client.says("lost.test.") == TRUE
    assert site.packets("lost.test.") == 2


def test_an_answer_that_comes_too_late_is_nobodys(site: Site) -> None:
    async def answer(seen: Seen) -> Sequence[bytes]:
        await asyncio.sleep(3 * READ_TIMEOUT)
        return [seen.address(FALSE)]

    site.script.say("late.test.", answer)
    assert site.client.says("late.test.") == "SERVFAIL"
    assert site.packets("late.test.") <= MAX_PACKETS
    site.script.forget("late.test.")
    for number in range(40):  # while the late ones come
        assert site.client.says(f"n{number}.late.test.") == TRUE
    assert site.client.says("late.test.") == TRUE


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_long_chain_of_aliases_is_handed_on_whole(site: Site, transport: str) -> None:
    name = f"chain-{transport}.test."

    def answer(seen: Seen) -> Sequence[bytes]:
        owners = [seen.name, *(f"c{number}.test." for number in range(100))]
        lines = [f"{owner} 60 IN CNAME {target}" for owner, target in itertools.pairwise(owners)]
        return [seen.reply(*lines, f"{owners[-1]} 60 IN A {TRUE}").to_wire()]

    site.script.say(name, answer)
    for _ in range(2):
        reply = site.client.ask(name, transport=transport, use_edns=0, payload=4096)
        if not reply.flags & dns.flags.TC:
            assert len(reply.answer) == 101
    assert not site.client.ask(name, transport=TCP).flags & dns.flags.TC


def test_a_loop_of_aliases_is_handed_on_as_it_is(site: Site) -> None:
    site.script.say("loop.test.", lambda seen: [seen.reply("loop.test. 60 IN CNAME loop.test.").to_wire()])
    assert len(site.client.ask("loop.test.").answer) == 1
    assert site.packets("loop.test.") == 1


# Over TCP


MOST = 4090  # addresses in a message


def huge(seen: Seen) -> Sequence[bytes]:
    """As many addresses as a message holds."""
    if seen.transport != TCP:
        return [seen.reply(tc=True).to_wire()]
    return [raw(seen, b"".join(record(data=struct.pack("!I", 10 << 24 | number)) for number in range(MOST)), MOST)]


@pytest.mark.parametrize("zone", ["test.", "plain.test.", "tcp.test.", "tls.test.", "both.test."])
def test_the_largest_answer_goes_whole_over_tcp_and_truncated_over_udp(site: Site, zone: str) -> None:
    name = f"huge.{zone}"
    site.script.say(name, huge)
    for _ in range(2):
        assert len(site.client.says(name, transport=TCP).split()) == MOST
        reply = site.client.ask(name)
        assert reply.flags & dns.flags.TC
        assert len(reply.to_wire(max_size=65535)) <= 512


Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def reset(writer: Writer, message: bytes) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half(writer: Writer, message: bytes) -> None:
    writer.write(frame(message)[:-5])


async def half_and_wait(writer: Writer, message: bytes) -> None:
    writer.write(frame(message)[:-5])
    await writer.drain()
    await asyncio.sleep(4 * READ_TIMEOUT)


async def half_a_length(writer: Writer, message: bytes) -> None:
    writer.write(b"\0")


async def hang_up(writer: Writer, message: bytes) -> None:
    return


async def empty_frames(writer: Writer, message: bytes) -> None:
    writer.write(bytes(2000))


async def zeros(writer: Writer, message: bytes) -> None:
    writer.write(frame(bytes(65535)) * 8)


BROKEN = (reset, half, half_and_wait, half_a_length, hang_up, empty_frames, zeros)


@pytest.mark.parametrize("zone", ["test.", "tcp.test."])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_connection_that_breaks_is_an_error_in_time_and_costs_three_packets_at_most(
    site: Site, broken: Callable[[Writer, bytes], object], zone: str
) -> None:
    name = name_of(broken.__name__.replace("_", "-"), "broken." + zone)  # type: ignore[attr-defined]

    async def serve(reader: Reader, writer: Writer) -> None:
        seen = await site.upstream.read_query(reader, writer)
        await broken(writer, seen.address(FALSE))  # type: ignore[misc]

    site.upstream.on_stream = serve
    site.upstream.close_streams()
    assert site.client.says(name, transport=TCP) == "SERVFAIL"
    assert site.packets(name) <= MAX_PACKETS
    assert site.client.seconds < MAX_PACKETS * READ_TIMEOUT + 1
    site.upstream.on_stream = None
    assert site.client.says(name, transport=TCP) == TRUE


@pytest.mark.parametrize("zone", ["test.", "tcp.test."])
def test_an_answer_may_come_octet_by_octet(site: Site, zone: str) -> None:
    async def trickle(reader: Reader, writer: Writer) -> None:
        message = frame((await site.upstream.read_query(reader, writer)).address())
        for octet in message:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)

    site.upstream.on_stream = trickle
    site.upstream.close_streams()
    assert site.client.says(f"trickle.{zone}", transport=TCP) == TRUE
    assert site.packets(f"trickle.{zone}") == 1


@pytest.mark.parametrize("zone", ["tcp.test.", "tls.test.", "test."])
def test_idle_connections_the_upstream_closes_cost_clients_nothing(site: Site, zone: str) -> None:
    for round_number in range(5):
        for number in range(20):
            assert site.client.says(f"n{number}.r{round_number}.idle.{zone}", transport=TCP) == TRUE
        site.upstream.close_streams()
    assert not [line for line in site.client.server.stdout.splitlines() if f".idle.{zone}" in line]


def test_connections_closed_on_the_next_query_cost_clients_nothing(site: Site) -> None:
    """The upstream answers one query on each connection, and hangs up when it gets another."""

    async def serve(reader: Reader, writer: Writer) -> None:
        writer.write(frame((await site.upstream.read_query(reader, writer)).address()))
        await site.upstream.read_query(reader, writer)

    site.upstream.on_stream = serve
    site.upstream.close_streams()
    for number in range(20):
        assert site.client.says(f"n{number}.once.tcp.test.", transport=TCP) == TRUE
        assert site.packets(f"n{number}.once.tcp.test.") <= MAX_PACKETS


# What the cache tells apart


def test_what_is_asked_with_do_or_cd_is_kept_apart(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        message = seen.message
        has_do, has_cd = bool(message.ednsflags & dns.flags.DO), bool(message.flags & dns.flags.CD)
        return [seen.address(f"192.0.2.{1 + has_do + 2 * has_cd}")]

    site.script.say("bits.test.", answer)
    for _ in range(2):
        for number in range(4):
            flags = dns.flags.RD | (dns.flags.CD if number & 2 else 0)
            said = site.client.says("bits.test.", want_dnssec=bool(number & 1), flags=flags)
            assert said == f"192.0.2.{1 + number}"
    assert site.packets("bits.test.") == 4


def test_another_class_is_never_answered_with_what_is_known_of_class_in(site: Site) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        rdclass = seen.message.question[0].rdclass
        return [seen.address() if rdclass == 1 else seen.reply(f'{seen.name} 60 CH TXT "chaos"').to_wire()]

    site.script.say("class.test.", answer)
    for _ in range(2):
        assert site.client.says("class.test.", "TXT", rdclass="CH") == '"chaos"'
        assert site.client.says("class.test.") == TRUE


def test_other_edns_of_the_same_question_shares_its_entry(site: Site) -> None:
    for options in ({}, {"use_edns": 0, "payload": 512}, {"use_edns": 0, "payload": 4096}):
        assert site.client.says("edns.test.", **options) == TRUE
    assert site.packets("edns.test.") == 1
