import socket
import struct
import threading
from contextlib import contextmanager

import dns.exception
import dns.message
import pytest

from bench.flood import flood, malformed_queries, plain_queries


@contextmanager
def server(reply_to):
    """A name server on loopback: `reply_to` makes a reply, or None to stay silent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def serve():
            while True:
                query, client = listener.recvfrom(4096)
                if query == b"stop":
                    return
                reply = reply_to(query)
                if reply is not None:
                    listener.sendto(reply, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"stop", listener.getsockname())
            thread.join()


def format_error(query):
    return query[:2] + struct.pack("!HHHHH", 0x8001, 0, 0, 0, 0)


@pytest.mark.parametrize("about", malformed_queries())
def test_a_malformed_query_is_malformed(about):
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(b"\0\0" + malformed_queries()[about])


def test_a_plain_query_is_what_its_line_says():
    (body,) = plain_queries(["web.shop.svc.cluster.local. AAAA"])

    question = dns.message.from_wire(b"\0\0" + body).question
    assert [str(entry) for entry in question] == ["web.shop.svc.cluster.local. IN AAAA"]


def test_every_reply_is_counted_with_its_rcode():
    with server(format_error) as port:
        result = flood("127.0.0.1", port, 0.1, list(malformed_queries().values()))

    assert result.sent == result.answered > 0
    assert result.lost == 0
    assert result.rcodes == {"FORMERR": result.answered}
    assert result.reply_bytes == 12
    assert result.ceiling_per_second > 0


def test_silence_is_counted_as_loss():
    with server(lambda query: None) as port:
        result = flood("127.0.0.1", port, 0.1, [b"x" * 12], outstanding=10)

    assert (result.sent, result.answered, result.lost) == (10, 0, 10)
