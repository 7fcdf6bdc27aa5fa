"""The sockets DNS is served on: one of each kind a worker, an error that says what and why."""

from __future__ import annotations

import gc
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kdns.errors import StartError
from kdns.server.addresses import interface_addresses
from kdns.server.sockets import IP_PKTINFO, IPV6_RECVPKTINFO, DnsSocket, ListenerSockets, bind_listener


@contextmanager
def bound(host: str, port: int, workers: int) -> Iterator[ListenerSockets]:
    found = bind_listener(host, port, workers)
    try:
        yield found
    finally:
        for one in all_of(found):
            one.socket.close()


def all_of(found: ListenerSockets) -> list[DnsSocket]:
    return [one for row in found.udp + found.tcp for one in row]


def free_port() -> int:
    """A port nobody has, for datagrams or streams."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.bind(("127.0.0.1", 0))
        return stream.getsockname()[1]


def test_each_worker_has_sockets_of_its_own_at_the_same_place():
    port = free_port()
    with bound("127.0.0.1", port, 3) as found:
        assert (len(found.udp), len(found.tcp)) == (3, 3)
        assert {one.socket.getsockname() for one in all_of(found)} == {("127.0.0.1", port)}
        assert len({one.socket.fileno() for one in all_of(found)}) == 6
        assert not any(one.wildcard or one.family_is_v6 for one in all_of(found))


def test_sockets_do_not_block_and_are_not_inherited():
    with bound("127.0.0.1", 0, 1) as found:
        for one in all_of(found):
            assert not one.socket.getblocking()
            assert not one.socket.get_inheritable()


def test_no_host_means_every_address_of_both_families():
    with bound("", free_port(), 1) as found:
        families = [one.family_is_v6 for one in found.udp[0]]
        assert families in ([False, True], [False])
        assert [one.family_is_v6 for one in found.tcp[0]] == families
        for one in found.udp[0]:
            assert one.wildcard
            if one.family_is_v6:
                assert one.socket.getsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1
                assert one.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            else:
                assert one.socket.getsockopt(socket.IPPROTO_IP, IP_PKTINFO) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_either_wildcard_address_means_both_families(host: str):
    with bound(host, free_port(), 1) as found, bound("", free_port(), 1) as everywhere:
        assert [one.family_is_v6 for one in found.udp[0]] == [one.family_is_v6 for one in everywhere.udp[0]]
        assert all(one.wildcard for one in all_of(found))


def test_an_address_of_one_link_is_bound_there():
    zones = [text for texts in interface_addresses().values() for text in texts if "%" in text]
    if not zones:
        pytest.skip("no interface has an address of its link")
    with bound(zones[0], 0, 1) as found:
        for one in all_of(found):
            address, _, _, scope = one.socket.getsockname()
            assert socket.if_indextoname(scope) == zones[0].partition("%")[2]
            assert address.partition("%")[0] == zones[0].partition("%")[0]


def test_streams_are_accepted_before_anybody_serves_them():
    with bound("127.0.0.1", free_port(), 1) as found:
        address = found.tcp[0][0].socket.getsockname()
        with socket.create_connection(address, timeout=5) as client:
            assert client.getpeername() == address


def test_the_receive_buffer_is_larger_than_the_default():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, bound("127.0.0.1", 0, 1) as found:
        default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert found.udp[0][0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= default


def in_use(kind: socket.SocketKind) -> tuple[socket.socket, int]:
    """A socket that shares its port with nobody."""
    other = socket.socket(socket.AF_INET, kind)
    other.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        other.listen()
    return other, other.getsockname()[1]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(("kind", "listen"), [
    (socket.SOCK_DGRAM, "ListenPacket: listen udp"), (socket.SOCK_STREAM, "Listen: listen tcp"),
])  # fmt: skip
def test_a_port_in_use_is_named(kind, listen):
    other, port = in_use(kind)
    with other, pytest.raises(StartError, match=re.escape(f"{listen} 127.0.0.1:{port}: bind: address already in use")):
        bind_listener("127.0.0.1", port, 1)
    gc.collect()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_nothing_stays_bound_where_something_cannot_be(kind):
    other, port = in_use(kind)
    with other, warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        with pytest.raises(StartError):
            bind_listener("127.0.0.1", port, 2)
        gc.collect()
    assert [str(found.message) for found in left if "unclosed" in str(found.message)] == []


def test_an_address_of_another_machine_is_named():
    with pytest.raises(StartError, match=re.escape("tcp 192.0.2.1:5353: bind: cannot assign requested address")):
        bind_listener("192.0.2.1", 5353, 1)
    with pytest.raises(StartError, match=re.escape("tcp [2001:db8::1]:5353: bind: ")):
        bind_listener("2001:db8::1", 5353, 1)


def test_a_lacking_right_is_explained(monkeypatch):
    def refuse(self: socket.socket, address: tuple[str, int]) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match=re.escape("(a port below 1024 needs the capability NET_BIND_SERVICE")):
        bind_listener("127.0.0.1", 53, 1)


# Leaving a place


def test_a_udp_socket_that_is_left_keeps_what_waits_and_gets_nothing_new():
    port = free_port()
    narrow, wide = bind_listener("127.0.0.1", port, 1), bind_listener("", port, 1)
    try:
        (left,), (other, *_) = narrow.udp[0], wide.udp[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2.0)
            client.sendto(b"before", ("127.0.0.1", port))
            left.leave()
            client.sendto(b"after", ("127.0.0.1", port))
            data, peer = left.socket.recvfrom(16)
            assert data == b"before"
            left.socket.sendto(b"reply", peer)
            assert client.recvfrom(16) == (b"reply", ("127.0.0.1", port))
            with pytest.raises(BlockingIOError):
                left.socket.recv(16)
            assert other.socket.recv(16) == b"after"
    finally:
        narrow.close()
        wide.close()


def test_a_tcp_socket_that_is_left_listens_no_more_whoever_has_it_open():
    port = free_port()
    listener = bind_listener("127.0.0.1", port, 1)
    with listener.tcp[0][0].socket.dup():
        listener.tcp[0][0].leave()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
    listener.close()
