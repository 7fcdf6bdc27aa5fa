"""The probes of a careful operator: what RFC 8906, section 8, asks of a name server, as dig queries and their checks.

31 probes of flags, EDNS, opcodes and transport, and 65 of types, as ISC's compliance tests count them; beside them the
queries that BIND and dig of today send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.e2e.dig import DigReply

ZONE = "cluster.local."
MAX_UDP_PAYLOAD = 1232  # octets
# Each type by its number: dig knows the names of some only.
TYPES = {
    "A": 1, "NS": 2, "MD": 3, "MF": 4, "CNAME": 5, "SOA": 6, "MB": 7, "MG": 8, "MR": 9, "NULL": 10, "WKS": 11,
    "PTR": 12, "HINFO": 13, "MINFO": 14, "MX": 15, "TXT": 16, "RP": 17, "AFSDB": 18, "X25": 19, "ISDN": 20, "RT": 21,
    "NSAP": 22, "NSAP-PTR": 23, "SIG": 24, "KEY": 25, "PX": 26, "GPOS": 27, "AAAA": 28, "LOC": 29, "NXT": 30,
    "SRV": 33, "NAPTR": 35, "KX": 36, "CERT": 37, "A6": 38, "DNAME": 39, "APL": 42, "DS": 43, "SSHFP": 44,
    "IPSECKEY": 45, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "DHCID": 49, "NSEC3": 50, "NSEC3PARAM": 51, "TLSA": 52,
    "SMIMEA": 53, "HIP": 55, "CDS": 59, "CDNSKEY": 60, "OPENPGPKEY": 61, "CSYNC": 62, "HTTPS": 65, "SPF": 99,
    "NID": 104, "L32": 105, "L64": 106, "LP": 107, "EUI48": 108, "EUI64": 109, "URI": 256, "CAA": 257, "DLV": 32769,
    "TYPE1000": 1000,
}  # fmt: skip
_EDNS = ("+edns=0", "+bufsize=4096")
_EDNS1 = ("+edns=1", "+noednsnegotiation", "+bufsize=4096")
_OPTIONS = {"nsid": "+nsid", "cookie": "+cookie", "expire": "+expire", "subnet": "+subnet=0.0.0.0/0"}


@dataclass(frozen=True, slots=True)
class Probe:
    """A query and what its reply must be."""

    name: str
    arguments: tuple[str, ...]  # of dig
    qtype: str = "SOA"
    status: str = "NOERROR"
    flags: frozenset[str] = frozenset({"qr", "aa"})
    may_have: frozenset[str] = frozenset()
    has_edns: bool = False
    has_soa: bool = True
    is_empty: bool = False
    max_size: int = 0

    @property
    def query(self) -> list[str]:
        """The arguments of dig for this probe."""
        return [*self.arguments, ZONE, self.qtype]

    def problems(self, reply: DigReply | None) -> list[str]:
        """What is wrong with the reply; nothing, if it passes."""
        if reply is None:
            return ["no reply"]
        found = list(reply.trouble)
        if reply.status != self.status:
            found.append(f"status {reply.status}, expected {self.status}")
        found += self._flag_problems(reply) + self._edns_problems(reply)
        if self.is_empty and any(reply.counts):
            found.append(f"sections of {reply.counts} records, expected none")
        elif not self.is_empty and not self._repeats_question(reply):
            found.append("the question is not repeated")
        if self.has_soa and not reply.has_soa():
            found.append("no SOA in the answer")
        if self.qtype != "SOA" and not self.is_empty and reply.counts[1] == 0 and not reply.has_soa("AUTHORITY"):
            found.append("neither an answer nor an SOA in the authority section")
        if not self.has_soa and self.status == "BADVERS" and reply.has_soa():
            found.append("SOA in the answer")
        if self.max_size and reply.size > self.max_size:
            found.append(f"{reply.size} octets, at most {self.max_size}")
        return found

    def _repeats_question(self, reply: DigReply) -> bool:
        """Whether the reply is about what was meant to be asked; dig writes types it knows by name."""
        asked = re.search(r"^;(\S+)\s+IN\s+(\S+)$", reply.text, re.M)
        return asked is not None and asked[1] == ZONE and asked[2] in (self.qtype, self.name.removeprefix("type "))

    def _flag_problems(self, reply: DigReply) -> list[str]:
        found = []
        if not self.flags <= reply.flags <= self.flags | self.may_have:
            found.append(f"flags {sorted(reply.flags)}, expected {sorted(self.flags)}")
        if reply.z:
            found.append(f"Z is {reply.z:#x}")
        if self.is_empty and reply.opcode != "RESERVED15":
            found.append(f"opcode {reply.opcode}, expected 15")
        return found

    def _edns_problems(self, reply: DigReply) -> list[str]:
        if (reply.edns_version is not None) != self.has_edns:
            return ["no OPT record" if self.has_edns else "an OPT record, though none was sent"]
        found = []
        if self.has_edns and reply.edns_version != 0:
            found.append(f"EDNS version {reply.edns_version}, expected 0")
        if reply.edns_z or reply.edns_flags - {"do"}:
            found.append(f"EDNS flags {sorted(reply.edns_flags)}, {reply.edns_z:#x}")
        # A cookie is answered by one with the client's own first, or not at all; dig says which.
        found += [
            f"option {name} {text}"
            for name, text in reply.options.items()
            if not (name == "COOKIE" and text.endswith("(good)"))
        ]
        return found


def _plain(name: str, *arguments: str, may_have: tuple[str, ...] = (), always: tuple[str, ...] = ()) -> Probe:
    flags = frozenset({"qr", "aa", *always})
    return Probe(name, arguments, flags=flags, may_have=frozenset(may_have))


def _edns(name: str, *arguments: str, may_have: tuple[str, ...] = ()) -> Probe:
    return Probe(name, (*_EDNS, *arguments), has_edns=True, may_have=frozenset(may_have))


def _edns1(name: str, *arguments: str) -> Probe:
    flags, may_have = frozenset({"qr"}), frozenset({"aa"})
    return Probe(
        name,
        (*_EDNS1, *arguments),
        status="BADVERS",
        flags=flags,
        may_have=may_have,
        has_edns=True,
        has_soa=False,
    )


def _opcode(name: str, *arguments: str) -> Probe:
    return Probe(
        name,
        ("+opcode=15", "+header-only", *arguments),
        status="NOTIMP",
        flags=frozenset({"qr"}),
        has_soa=False,
        is_empty=True,
    )


PROBES = (
    _plain("dns"),
    _plain("aa", "+aaflag"),
    _plain("ad", "+adflag", may_have=("ad",)),
    _plain("cd", "+cdflag", may_have=("cd",)),
    _plain("ra", "+raflag"),
    _plain("rd", "+recurse", always=("rd",)),
    _plain("tc", "+tcflag"),
    _plain("zflag", "+zflag"),
    _opcode("opcode"),
    _opcode("opcodeflg", "+tcflag", "+recurse", "+raflag", "+zflag", "+adflag", "+cdflag", "+aaflag"),
    Probe("type666", (), qtype="TYPE666", has_soa=False),
    Probe("tcp", ("+tcp",)),
    _edns("edns"),
    _edns("do", "+dnssec", may_have=("ad",)),
    _edns("docd", "+dnssec", "+cdflag", may_have=("ad", "cd")),
    _edns("ednsflags", "+ednsflags=0x80"),
    _edns("ednsopt", "+ednsopt=100"),
    _edns("optlist", *_OPTIONS.values()),
    *(_edns(f"edns{name}", option) for name, option in _OPTIONS.items()),
    _edns1("edns1"),
    _edns1("edns1opt", "+ednsopt=100"),
    _edns1("edns1do", "+dnssec"),
    *(_edns1(f"edns1{name}", option) for name, option in _OPTIONS.items()),
    Probe(
        "edns@512",
        ("+edns=0", "+bufsize=512", "+dnssec"),
        qtype="DNSKEY",
        may_have=frozenset({"tc", "ad"}),
        has_edns=True,
        has_soa=False,
        max_size=512,
    ),
    Probe("ednstcp", (*_EDNS, "+tcp"), has_edns=True),
)
TYPE_PROBES = tuple(
    Probe(f"type {name}", (), qtype=f"TYPE{number}", has_soa=name == "SOA") for name, number in TYPES.items()
)
EXTRA_PROBES = (
    Probe("bind11", ("+edns=0", f"+bufsize={MAX_UDP_PAYLOAD}", "+cookie", "+dnssec"), has_edns=True),
    Probe(
        "dig11",
        ("+edns=0", f"+bufsize={MAX_UDP_PAYLOAD}", "+cookie", "+recurse", "+adflag"),
        flags=frozenset({"qr", "aa", "rd"}),
        may_have=frozenset({"ad"}),
        has_edns=True,
    ),
)
