"""Is an answer right? A server that answers something else is not fast, it is disqualified."""

from __future__ import annotations

import random
import socket

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from bench.errors import PeerError
from bench.flood import malformed_queries
from bench.loads import SAMPLE
from bench.records import Question, Truth

TIMEOUT_SECONDS = 5.0  # for one answer
START_TIMEOUT_SECONDS = 0.2  # for one answer of a server that may not be there yet
MIN_FULL_OCTETS = 60_000  # of records in a reply over TCP, of 65,535 in all; a server may leave room at the end


def verify(address: str, port: int, questions: list[Question], truth: Truth, over_tcp: bool) -> None:
    """Put a sample of `questions` to a server; raises PeerError at the first answer that is not right.

    A reply cut to fit a datagram may hold any part of the right records, none included. It is asked for again over TCP,
    where all of them must come if they fit. A TCP load of more than fits must get a reply that is full.
    """
    distinct = sorted(set(questions))
    for question in random.Random(len(distinct)).sample(distinct, min(SAMPLE, len(distinct))):
        query = dns.message.make_query(question.name, question.type)
        reply = _ask(query, address, port, over_tcp)
        check_reply(question, reply, truth)
        expected = truth.answer(question).rdata
        is_cut = bool(reply.flags & dns.flags.TC)
        if is_cut and over_tcp and _octets(_rdata(reply)) < MIN_FULL_OCTETS:
            raise PeerError(f"{question.name} {question.type}: cut at {_octets(_rdata(reply))} octets over TCP")
        if is_cut and not over_tcp and _octets(expected) <= MIN_FULL_OCTETS:
            check_reply(question, _ask(query, address, port, True), truth)


def verify_malformed(address: str, port: int) -> None:
    """Put each kind of malformed query to a server; raises PeerError unless each is answered with FORMERR."""
    for about, body in malformed_queries().items():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect((address, port))
            connection.send(b"\x12\x34" + body)
            try:
                reply = connection.recv(65_536)
            except OSError as error:
                raise PeerError(f"malformed query ({about}): no answer") from error
        if len(reply) < 12 or reply[:2] != b"\x12\x34" or reply[3] & 15 != dns.rcode.FORMERR:
            raise PeerError(f"malformed query ({about}): answered {reply[:12].hex()}, expected FORMERR")


def ask_and_check(address: str, port: int, question: Question, truth: Truth) -> None:
    """Ask once, over UDP, without patience; raises PeerError unless the answer is right. For servers that start."""
    query = dns.message.make_query(question.name, question.type)
    check_reply(question, _ask(query, address, port, over_tcp=False, timeout_seconds=START_TIMEOUT_SECONDS), truth)


def check_has_answer(address: str, port: int, question: Question) -> None:
    """Ask once, over UDP, without patience; raises PeerError unless there are records in the answer."""
    query = dns.message.make_query(question.name, question.type)
    reply = _ask(query, address, port, over_tcp=False, timeout_seconds=START_TIMEOUT_SECONDS)
    if not reply.answer:
        raise PeerError(f"{question.name} {question.type}: {dns.rcode.to_text(reply.rcode())} and no record")


def check_reply(question: Question, reply: dns.message.Message, truth: Truth) -> None:
    """Raise PeerError unless `reply` has the right rcode and the right records."""
    expected = truth.answer(question)
    rcode = dns.rcode.to_text(reply.rcode())
    if rcode != expected.rcode:
        raise PeerError(f"{question.name} {question.type}: answered {rcode}, expected {expected.rcode}")
    given = _rdata(reply)
    is_cut = bool(reply.flags & dns.flags.TC)
    if given - expected.rdata or (not is_cut and given != expected.rdata):
        wrong = sorted(given - expected.rdata)[:1] or ["fewer"]
        raise PeerError(
            f"{question.name} {question.type}: {len(given)} records ({wrong[0]}), expected {len(expected.rdata)}"
        )
    foreign = [rrset for rrset in reply.answer if dns.rdatatype.to_text(rrset.rdtype) != question.type]
    if foreign:
        raise PeerError(f"{question.name} {question.type}: answered with {foreign[0]}")


def _rdata(reply: dns.message.Message) -> frozenset[str]:
    """The rdata of the answer section."""
    return frozenset(rdata.to_text() for rrset in reply.answer for rdata in rrset)


def _octets(rdata: frozenset[str]) -> int:
    """What records occupy in a reply: twelve octets and their rdata, here an address, or numbers and a name."""
    sizes = {text: 4 if text.count(".") == 3 and text[-1] != "." else 6 + len(text.split()[-1]) for text in rdata}
    return 12 * len(sizes) + sum(sizes.values())


def _ask(
    query: dns.message.QueryMessage, address: str, port: int, over_tcp: bool, timeout_seconds: float = TIMEOUT_SECONDS
) -> dns.message.Message:
    ask = dns.query.tcp if over_tcp else dns.query.udp
    try:
        return ask(query, address, timeout_seconds, port)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        name = query.question[0].to_text()
        raise PeerError(f"{name}: no usable answer: {error or type(error).__name__}") from error
