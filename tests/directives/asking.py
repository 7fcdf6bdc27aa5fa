"""Asks what a step asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.directives.cases import Step
from tests.directives.comparison import Reply
from tests.harness.exchange import UDP, Peer, ask, frame, receive_frame

TIMEOUT_SECONDS = 6.0
NO_REPLY = "no reply"
_TRANSFERS = ("AXFR", "IXFR")


def query_of(step: Mapping[str, Any], name: str) -> dns.message.Message:
    """The query a step sends."""
    query = dns.message.make_query(dns.name.from_text(name), step.get("type", "A"), step.get("class", "IN"))
    flags = {"rd": True, **step.get("flags", {})}
    query.flags = dns.flags.from_text(" ".join(flag.upper() for flag, is_set in flags.items() if is_set))
    edns = step.get("edns")
    if edns is not None:
        options: list[dns.edns.Option] = [
            dns.edns.GenericOption(option["code"], bytes.fromhex(option["hex"])) for option in edns.get("options", ())
        ]
        do = dns.flags.DO if edns.get("do") else 0
        query.use_edns(edns.get("version", 0), do, edns.get("bufsize", 1232), options=options)
    if step.get("type") == "IXFR":
        serial = step.get("serial", 0)
        query.authority = [dns.rrset.from_text(step["q"], 0, "IN", "SOA", f". . {serial} 0 0 0 0")]
    return query


def ask_step(step: Mapping[str, Any], peer: Peer, name: str) -> Reply | None:
    """The reply to a step's query, None where none came. Raises AssertionError for one that is not to this query."""
    query = query_of(step, name)
    timeout_seconds = float(step.get("timeout", TIMEOUT_SECONDS))
    if step.get("type") in _TRANSFERS:
        wires = _transfer(peer, query, timeout_seconds)
    else:
        wire = ask(peer, query.to_wire(), step.get("transport", UDP), timeout_seconds)
        wires = [] if wire is None else [wire]
    if not wires:
        return None
    messages = [dns.message.from_wire(wire, one_rr_per_rrset=True, xfr=True) for wire in wires]
    _check_header(query, messages[0])
    return Reply.read(messages, len(wires[0]))


def ask_at_once(step: Step, peer: Peer) -> dict[str, int]:
    """What a burst of queries is told: rcode to number."""
    burst = step["burst"]

    def rcode_of(number: int) -> str:
        reply = ask_step(burst, peer, burst["q"].replace("{i}", str(number)))
        return NO_REPLY if reply is None else reply.rcode

    with ThreadPoolExecutor(burst["count"]) as pool:
        return dict(Counter(pool.map(rcode_of, range(burst["count"]))))


def ask_on_one_connection(names: Sequence[str], peer: Peer) -> list[tuple[int, str]]:
    """Replies in the order they come: the number of the question, and the rcode."""
    queries = [dns.message.make_query(name, "A", id=number) for number, name in enumerate(names)]
    replies: list[tuple[int, str]] = []
    with closing(peer.open_tcp(TIMEOUT_SECONDS)) as tcp:
        tcp.sendall(b"".join(frame(query.to_wire()) for query in queries))
        while len(replies) < len(queries) and (wire := receive_frame(tcp)) is not None:
            reply = dns.message.from_wire(wire)
            replies.append((reply.id, dns.rcode.to_text(reply.rcode())))
    return replies


def _transfer(peer: Peer, query: dns.message.Message, timeout_seconds: float) -> list[bytes]:
    """The messages of a zone transfer: until the second SOA, an error or the end of the connection."""
    is_incremental = query.question[0].rdtype == dns.rdatatype.IXFR
    replies: list[bytes] = []
    marks = 0
    try:
        with closing(peer.open_tcp(timeout_seconds)) as tcp:
            tcp.sendall(frame(query.to_wire()))
            while marks < 2 and (wire := receive_frame(tcp)) is not None:
                replies.append(wire)
                message = dns.message.from_wire(wire, xfr=True, one_rr_per_rrset=True)
                marks += sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer)
                if message.rcode() != dns.rcode.NOERROR or (is_incremental and marks == 1):
                    break
    except (TimeoutError, ConnectionError):  # what came before is judged
        pass
    return replies


def _check_header(query: dns.message.Message, reply: dns.message.Message) -> None:
    """The header and the question are those of a reply to this query."""
    assert reply.id == query.id, f"id {reply.id}, asked {query.id}"
    assert reply.flags & dns.flags.QR, "QR is clear"
    assert reply.opcode() == query.opcode(), f"opcode {reply.opcode()}"
    assert reply.flags & dns.flags.RD == query.flags & dns.flags.RD, f"RD is {bool(reply.flags & dns.flags.RD)}"
    asked, echoed = ([str(rrset) for rrset in message.question] for message in (query, reply))
    assert asked == echoed, f"question {echoed}, asked {asked}"
