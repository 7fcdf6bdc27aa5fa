import socket
import threading
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rrset
import pytest

from bench.diff import compare_servers
from bench.errors import BenchError
from bench.records import Question

QUESTION = Question("web.shop.svc.cluster.local.", "A")


@contextmanager
def server(answer):
    """A name server over UDP; `answer` gets the reply to fill, and returns False where there is to be none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.05)
        ended = threading.Event()

        def serve():
            while not ended.is_set():
                try:
                    octets, client = listener.recvfrom(4096)
                except TimeoutError:
                    continue
                reply = dns.message.make_response(dns.message.from_wire(octets))
                if answer(reply) is not False:
                    listener.sendto(reply.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            ended.set()
            thread.join()


def addresses(*texts, ttl=5):
    def answer(reply):
        reply.flags |= dns.flags.AA
        reply.answer.append(dns.rrset.from_text(QUESTION.name.upper(), ttl, "IN", "A", *texts))

    return answer


def compare(one, other, **options):
    with server(one) as first, server(other) as second:
        return compare_servers(first, second, [QUESTION], **options)


def test_order_letter_case_and_ttls_are_no_difference():
    found = compare(addresses("10.0.0.1", "10.0.0.2"), addresses("10.0.0.2", "10.0.0.1", ttl=30))

    assert (found.asked, found.count, found.examples) == (1, 0, [])


@pytest.mark.parametrize(
    ("other", "options", "kind"),
    [
        (addresses("10.0.0.9"), {}, "answer"),
        (addresses("10.0.0.1", ttl=30), {"with_ttls": True}, "answer"),
        (lambda reply: reply.set_rcode(3), {}, "rcode"),
    ],
)
def test_a_difference_is_named_and_shown(other, options, kind):
    found = compare(addresses("10.0.0.1"), other, **options)

    assert (found.count, found.kinds) == (1, {kind: 1})
    assert QUESTION.name in found.examples[0]
    assert "10.0.0.1" in found.examples[0]


def test_a_server_that_is_not_there_is_told_of():
    with server(addresses("10.0.0.1")) as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nowhere:
        nowhere.bind(("127.0.0.1", 0))
        place = nowhere.getsockname()
        nowhere.close()
        with pytest.raises(BenchError, match=f"127.0.0.1:{place[1]} answers nothing"):
            compare_servers(there, place, [QUESTION])
