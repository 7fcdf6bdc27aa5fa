"""Asking with dig, and reading what it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.harness.exchange import TCP, Peer
from tests.harness.places import Place

INSTALL_HINT = "dig is missing: apt-get install bind9-dnsutils (or your system's package of BIND's tools)"
# Nothing that was not asked for: no RD, no AD, no EDNS, no cookie, no second try.
PLAIN = ("+norecurse", "+noadflag", "+noedns", "+nocookie", "+tries=1", "+timeout=2", "+ignore", "+qid=4242")
_RUN_SECONDS = 120
_HEADER = re.compile(r"^;; ->>HEADER<<- opcode: (\S+), status: (\S+), id: (\d+)$", re.M)
_FLAGS = re.compile(
    r"^;; flags:([ a-z]*)(?:; MBZ: (0x[0-9a-f]+))?; QUERY: (\d+), ANSWER: (\d+), AUTHORITY: (\d+), ADDITIONAL: (\d+)$",
    re.M,
)
_EDNS = re.compile(r"^; EDNS: version: (\d+), flags:([ a-z]*);(?: MBZ: (0x[0-9a-f]+),)? udp: (\d+)$", re.M)
_OPTION = re.compile(
    r"^; (COOKIE|NSID|CLIENT-SUBNET|EXPIRE|PAD(?:DING)?|TCP KEEPALIVE|TCP-KEEPALIVE|OPT=\d+|EDE)(?:$|[: ])(.*)", re.M
)
_SIZE = re.compile(r"^;; MSG SIZE  rcvd: (\d+)$", re.M)
_TROUBLE = re.compile(r"^;; (?:Warning|WARNING): (?!\.local|recursion requested|Client COOKIE)(.*)$", re.M)


@dataclass(frozen=True, slots=True)
class DigReply:
    """One reply as dig printed it."""

    text: str
    opcode: str
    status: str
    flags: frozenset[str]
    z: int
    counts: tuple[int, int, int, int]
    edns_version: int | None
    edns_flags: frozenset[str]
    edns_z: int
    payload: int
    options: dict[str, str]
    size: int
    trouble: tuple[str, ...]

    def section(self, name: str) -> list[list[str]]:
        """The records of a section, each cut into its fields."""
        _, found, rest = self.text.partition(f";; {name} SECTION:\n")
        lines = rest.split("\n\n")[0].splitlines() if found else []
        return [line.split(None, 4) for line in lines if line and not line.startswith(";")]

    def has_soa(self, section: str = "ANSWER") -> bool:
        """Whether an SOA record stands in the section."""
        return any(len(record) == 5 and record[3] == "SOA" for record in self.section(section))


def dig_all(place: Place, peer: Peer, queries: Sequence[Sequence[str]], transport: str) -> list[DigReply | None]:
    """The replies to many queries, each given as dig's arguments; None where none came.

    One dig runs them all, which is many times faster than one for each.
    """
    if shutil.which("dig") is None:
        raise AssertionError(INSTALL_HINT)
    over = "+tcp" if transport == TCP else "+notcp"
    # dig reads some 14 words of a line and no more: what all have in common stands before.
    common = [f"@{peer.address}", "-p", str(peer.port), *PLAIN, over]
    ran = place.run(
        lambda: subprocess.run(
            ["dig", "-r", *common, "-f", "-"],
            input="".join(f"{' '.join(query)}\n" for query in queries),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    )
    parts = re.split(r"^; <<>> DiG .*$", ran.stdout, flags=re.M)[1:]
    if len(parts) != len(queries):
        raise AssertionError(f"dig printed {len(parts)} replies to {len(queries)} queries\n{ran.stdout}{ran.stderr}")
    return [read_reply(part) for part in parts]


def read_reply(text: str) -> DigReply | None:
    """The reply dig printed, or None if it printed none."""
    header, flags = _HEADER.search(text), _FLAGS.search(text)
    if header is None or flags is None:
        return None
    edns, size = _EDNS.search(text), _SIZE.search(text)
    return DigReply(
        text=text,
        opcode=header[1],
        status=header[2],
        flags=frozenset(flags[1].split()),
        z=int(flags[2] or "0", 16),
        counts=(int(flags[3]), int(flags[4]), int(flags[5]), int(flags[6])),
        edns_version=int(edns[1]) if edns else None,
        edns_flags=frozenset(edns[2].split()) if edns else frozenset(),
        edns_z=int((edns and edns[3]) or "0", 16),
        payload=int(edns[4]) if edns else 0,
        options={found[1]: found[2] for found in _OPTION.finditer(text)},
        size=int(size[1]) if size else 0,
        trouble=tuple(found[1] for found in _TROUBLE.finditer(text)),
    )
