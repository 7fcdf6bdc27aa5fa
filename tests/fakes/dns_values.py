"""Generated names, records and queries for property tests of the DNS values."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Record

POOL = (b"a", b"b", b"_http", b"_tcp", b"svc", b"10-0-0-1", b"x" * 63, b"\0", b"a.b", b"\xff")
ZONE = names.from_text("svc.cluster.local")

any_labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6)
any_names = any_labels.filter(lambda found: sum(map(len, found)) + len(found) < names.MAX_NAME).map(names.from_labels)
# Few labels, so that names share their ends and compression has something to do.
related_names = st.lists(st.sampled_from(POOL[:7]), max_size=2).map(
    lambda found: names.from_labels([*found])[:-1] + ZONE
)
ttls = st.sampled_from((0, 5, 30, 3600, 2**31 - 1))


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """The data of an SRV record."""
    return struct.pack("!HHH", priority, weight, port) + target


addresses = st.binary(min_size=4, max_size=4)
addresses6 = st.binary(min_size=16, max_size=16)
services = st.builds(srv, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), related_names)
texts = st.binary(max_size=255).map(lambda text: bytes((len(text),)) + text)
RDATAS = {
    RRType.A: addresses,
    RRType.AAAA: addresses6,
    RRType.SRV: services,
    RRType.PTR: related_names,
    RRType.NS: related_names,
    RRType.CNAME: related_names,
    RRType.TXT: texts,
}


@st.composite
def records(draw: st.DrawFn, owners: st.SearchStrategy[bytes] = related_names) -> Record:
    """A record of any type kdns makes."""
    rtype = draw(st.sampled_from(sorted(RDATAS)))
    return Record(draw(owners), rtype, draw(ttls), draw(RDATAS[rtype]))


def query(
    name: bytes | str,
    qtype: int = RRType.A,
    *,
    qclass: int = 1,
    flags: int = 0x0100,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    tail: bytes = b"",
    message_id: int = 0x4242,
) -> bytes:
    """A message with one question, and whatever else is asked for."""
    wire = names.from_text(name) if isinstance(name, str) else name
    return struct.pack("!HHHHHH", message_id, flags, *counts) + wire + struct.pack("!HH", qtype, qclass) + tail


def opt(
    payload: int = 1232, *, version: int = 0, do: bool = False, options: bytes = b"", owner: bytes = b"\0"
) -> bytes:
    """An OPT record."""
    return owner + struct.pack("!HHBBHH", RRType.OPT, payload, 0, version, 0x8000 * do, len(options)) + options


def option(code: int, data: bytes = b"") -> bytes:
    """An EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


def edns_query(name: bytes | str, qtype: int = RRType.A, payload: int = 1232, **rest: object) -> bytes:
    """A query with an OPT record and nothing else behind the question."""
    return query(name, qtype, counts=(1, 0, 0, 1), tail=opt(payload, **rest))  # type: ignore[arg-type]
