"""Datagrams on real sockets: batches answered, misses handed out, replies from the address that was asked."""

from __future__ import annotations

import socket
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import pytest

from kdns.dns.codes import RRType
from kdns.hotpath.udp import UdpSocket, address_of, arrival_of
from kdns.metrics import OUTCOMES
from kdns.server.sockets import bind_listener
from tests.fakes.dns_values import edns_query, option, query
from tests.fakes.hostile_messages import CASES
from tests.fakes.small_table import address, at, counts_of, make_responder
from tests.harness.parsed import sections_of

LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 5.0  # over loopback a datagram is there when the call that sent it returns
SERVICE_PORTS = (7, 13, 17, 19, 37, 53)
MAX_DATAGRAM = 65535


class UdpBench:
    """A served socket. Nothing runs by itself: a test lets it receive."""

    def __init__(self, host: str, family: int) -> None:
        listener = bind_listener(host, 0, 1)
        self.sockets = [found.socket for found in listener.udp[0] + listener.tcp[0]]
        self.bound = next(found for found in listener.udp[0] if found.family_is_v6 is (family == socket.AF_INET6))
        self.port = self.bound.socket.getsockname()[1]
        self.counters = bytearray(8 * len(OUTCOMES))
        self.server = UdpSocket(self.bound.socket.fileno(), make_responder(counters=self.counters), self.bound.wildcard)

    def counts(self) -> dict[str, int]:
        return counts_of(self.counters)

    def exchange(self, client: socket.socket, message: bytes) -> bytes:
        client.send(message)
        assert self.server.receive() is None
        return client.recv(MAX_DATAGRAM)


@contextmanager
def serving(host: str = LOOPBACK, family: int = socket.AF_INET) -> Iterator[UdpBench]:
    bench = UdpBench(host, family)
    try:
        yield bench
    finally:
        for found in bench.sockets:
            found.close()


@contextmanager
def client_of(bench: UdpBench, host: str = LOOPBACK, own: tuple[str, int] | None = None) -> Iterator[socket.socket]:
    """A socket connected to `host`: it takes replies from there alone."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT_SECONDS)
        if own is not None:
            client.bind(own)
        client.connect((host, bench.port))
        yield client


def is_silent(client: socket.socket) -> bool:
    """Whether nothing has arrived. What was sent over loopback would have."""
    client.setblocking(False)
    try:
        client.recv(MAX_DATAGRAM)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(TIMEOUT_SECONDS)
    return False


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_what_waits_is_answered_in_one_call(count):
    with serving() as bench, client_of(bench) as client:
        for n in range(count):
            client.send(query(at("one"), message_id=n))
        assert bench.server.receive() is None
        for n in range(count):
            reply = client.recv(MAX_DATAGRAM)
            assert int.from_bytes(reply[:2], "big") == n
            assert sections_of(reply).answer[0].rdata == address(0)
        assert bench.counts() == {"answer": count}


def test_nothing_waits_and_nothing_happens():
    with serving() as bench:
        assert bench.server.receive() is None
        assert bench.counts() == {}


def test_every_client_gets_its_own_reply():
    with serving() as bench, client_of(bench) as one, client_of(bench) as other:
        one.send(query(at("one"), message_id=1))
        other.send(query(at("nowhere"), message_id=2))
        one.send(query(at("many"), message_id=3))
        assert bench.server.receive() is None
        assert [one.recv(MAX_DATAGRAM)[1] for _ in range(2)] == [1, 3]
        assert dns.message.from_wire(other.recv(MAX_DATAGRAM)).rcode() == 3
        assert bench.counts() == {"answer": 1, "nxdomain": 1, "truncated": 1}


@pytest.mark.parametrize(("host", "asked", "family"), [
    ("", "127.0.0.1", socket.AF_INET),
    ("", "127.0.0.2", socket.AF_INET),
    ("", "127.9.8.7", socket.AF_INET),
    ("127.0.0.2", "127.0.0.2", socket.AF_INET),
    ("", "::1", socket.AF_INET6),
    ("::1", "::1", socket.AF_INET6),
])  # fmt: skip
def test_replies_leave_from_the_address_that_was_asked(host, asked, family):
    if family == socket.AF_INET6 and not _has_ipv6_loopback():
        pytest.skip("no IPv6 here")
    with serving(host, family) as bench, client_of(bench, asked) as client:
        assert bench.bound.wildcard is (host == "")
        assert sections_of(bench.exchange(client, query(at("one")))).answer
        message = query("www.example.org")
        client.send(message)
        ((missed, peer, control),) = bench.server.receive()
        assert missed == message
        assert address_of(peer) == client.getsockname()[:2]
        assert bool(control) is bench.bound.wildcard
        assert bench.server.send(b"from the slow path", peer, control)
        assert client.recv(MAX_DATAGRAM) == b"from the slow path"


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_misses_are_handed_out_and_hits_among_them_answered():
    with serving("") as bench, client_of(bench, "127.0.0.3") as client:
        messages = [query("www.example.org" if n % 3 else at("one"), message_id=n) for n in range(150)]
        for message in messages:
            client.send(message)
        missed = bench.server.receive()
        assert [found[0] for found in missed] == [message for n, message in enumerate(messages) if n % 3]
        assert bench.counts() == {"answer": 50, "miss": 100}
        for _ in range(50):
            client.recv(MAX_DATAGRAM)
        for message, peer, control in reversed(missed):
            assert bench.server.send(message[:2], peer, control)
        assert [client.recv(MAX_DATAGRAM) for _ in missed] == [message[:2] for message, _, _ in reversed(missed)]


def test_a_reply_that_cannot_be_sent_is_counted():
    with serving() as bench, client_of(bench) as client:
        client.send(query("www.example.org"))
        ((_, peer, control),) = bench.server.receive()
        assert not bench.server.send(bytes(70_000), peer, control)
        assert bench.counts() == {"miss": 1, "drop_unsent": 1}


def test_every_datagram_is_counted_once():
    with serving() as bench, client_of(bench) as client:
        for case in CASES:
            client.send(case.message)
            bench.server.receive()
        counts = bench.counts()
        assert sum(counts.values()) == len(CASES)
        assert counts["drop_short"] == 12
        received = 0
        while not is_silent(client):
            received += 1
        assert received == sum(n for name, n in counts.items() if name != "miss" and not name.startswith("drop"))


@pytest.mark.parametrize("size", [2049, 4000, 60_000])
def test_a_datagram_too_large_for_a_query_is_a_format_error(size):
    with serving() as bench, client_of(bench) as client:
        reply = bench.exchange(client, query(at("one")).ljust(size, b"\0"))
        assert reply == b"\x42\x42\x80\x01" + bytes(8)
        client.send(query(at("one"), flags=0x8000).ljust(size, b"\0"))
        bench.server.receive()
        assert is_silent(client), "a response gets none, however large"
        assert bench.exchange(client, query(at("one"), flags=0x2000).ljust(size, b"\0"))[2:4] == b"\xa0\x04"
        assert bench.counts() == {"formerr": 1, "drop_response": 1, "notimp": 1}


def test_the_largest_query_is_read_whole():
    with serving() as bench, client_of(bench) as client:
        padded = edns_query(at("one"), options=option(12, bytes(2048 - len(edns_query(at("one"))) - 4)))
        assert len(padded) == 2048
        assert dns.message.from_wire(bench.exchange(client, padded)).edns == 0
        assert bench.counts() == {"answer": 1}


@pytest.mark.parametrize("port", SERVICE_PORTS)
def test_errors_never_go_to_ports_of_services_that_answer_them(port):
    """A forged source there would start a loop; what is no error is answered as ever."""
    with serving() as bench:
        try:
            with client_of(bench, own=("127.77.0.1", port)) as client:
                client.send(query(at("one"))[:-1])
                client.send(query(at("one"), flags=0x2000))
                assert bench.server.receive() is None
                assert is_silent(client)
                assert sections_of(bench.exchange(client, query(at("one")))).answer
        except PermissionError:
            pytest.skip("ports below 1024 need a right this process lacks")
        assert bench.counts() == {"answer": 1, "drop_service_port": 2}


def test_no_reply_is_larger_than_the_limit_or_the_query_allows():
    with serving() as bench, client_of(bench) as client:
        for payload, limit in ((None, 512), (4096, 1232), (65535, 1232)):
            message = query(at("many")) if payload is None else edns_query(at("many"), payload=payload)
            assert limit - 16 < len(bench.exchange(client, message)) <= limit


def test_a_peer_that_is_gone_does_not_keep_replies_from_the_others():
    with serving() as bench, client_of(bench) as client:
        with client_of(bench) as leaving:
            leaving.send(query(at("one"), message_id=1))
        client.send(query(at("one"), message_id=2))
        assert bench.server.receive() is None
        assert client.recv(MAX_DATAGRAM)[1] == 2
        assert bench.exchange(client, query(at("one"), message_id=3))[1] == 3


def test_hits_make_no_python_object():
    """10,000 queries; what Python holds at most during a call does not grow with the datagrams in it."""
    rounds, size = 50, 200
    buffer = bytearray(2048)
    messages = [
        query(at("one")),
        edns_query(at("seven")),
        query(at("nowhere"), RRType.AAAA),
        query(at("one"), RRType.AAAA),
    ]
    with serving() as bench, client_of(bench) as client:
        receive = bench.server.receive
        peaks = []
        blocks = 0
        for round_number in range(rounds):
            for n in range(size):
                client.send(messages[n % len(messages)])
            if round_number % 2:
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
                receive()
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
                tracemalloc.stop()
            else:
                before = sys.getallocatedblocks()
                receive()
                blocks += sys.getallocatedblocks() - before
            for _ in range(size):
                client.recv_into(buffer)
        assert max(peaks) < size, "octets for all datagrams of a call together"
        assert abs(blocks) < rounds
        assert sum(bench.counts().values()) == rounds * size


def test_one_call_serves_a_bounded_number_of_datagrams():
    """The loop has other events, which must get their turn however much waits."""
    with serving() as bench, client_of(bench) as client:
        for _ in range(1500):
            client.send(query(at("one"), flags=0x8000))
        bench.server.receive()
        first = bench.counts()["drop_response"]
        assert 64 <= first <= 1024
        bench.server.receive()
        assert first < bench.counts()["drop_response"] <= 1500 or first < 1024, "fewer fitted into the socket"


def test_peers_are_read_as_addresses():
    assert address_of(b"\x02\0\x1f\x90\x7f\0\0\x01" + bytes(8)) == ("127.0.0.1", 8080)
    assert address_of(b"\x0a\0\0\x35" + bytes(4) + b"\xfd" + bytes(14) + b"\x01" + bytes(4)) == ("fd00::1", 53)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.3"), (socket.AF_INET6, "::1")], ids=["ipv4", "ipv6"]
)
def test_a_miss_tells_where_it_arrived(family, host):
    with serving("", family) as bench, client_of(bench, host) as client:
        client.send(query("www.example.org"))
        ((_, _, control),) = bench.server.receive()
        assert arrival_of(control) == host


def test_a_socket_of_one_address_need_not_tell_where():
    with serving() as bench, client_of(bench) as client:
        client.send(query("www.example.org"))
        ((_, _, control),) = bench.server.receive()
        assert (control, arrival_of(control)) == (b"", "")
