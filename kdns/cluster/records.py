"""Records and answers common to everything the cluster names. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import pack
from typing import TYPE_CHECKING

from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, Node, Record

if TYPE_CHECKING:  # workers have records to make, and no objects
    from kdns.cluster.objects import Port

# Plain numbers: an IntEnum's member is looked up and hashed in Python, and these go into every record.
A = int(RRType.A)
NS = int(RRType.NS)
CNAME = int(RRType.CNAME)
PTR = int(RRType.PTR)
TXT = int(RRType.TXT)
AAAA = int(RRType.AAAA)
SRV = int(RRType.SRV)

SRV_PRIORITY = 0
SRV_HEAD = 6  # octets of SRV data in front of the target
SRV_WEIGHT = 100  # shared by the candidates of an SRV answer (CoreDNS)
MAX_MESSAGE = 65_535  # octets (RFC 1035, 4.2.2)
RECORD_OVERHEAD = 12  # octets of a record besides its data, the owner being a pointer


def address_type(address: bytes) -> int:
    """A or AAAA, as the length of a packed address says."""
    return A if len(address) == 4 else AAAA


def address_record(owner: bytes, ttl: int, address: bytes) -> Record:
    """The A or AAAA record of a packed address."""
    return Record(owner, address_type(address), ttl, address)


def address_answers(ttl: int, addresses: Iterable[bytes]) -> tuple[Answer, ...]:
    """The A and the AAAA answer `addresses` make, each where it is not empty, without duplicates."""
    distinct = dict.fromkeys(addresses)
    ipv4 = tuple([address for address in distinct if len(address) == 4])
    if len(ipv4) == len(distinct):
        return (Answer(A, ttl, ipv4),) if ipv4 else ()
    ipv6 = tuple([address for address in distinct if len(address) != 4])
    return (Answer(A, ttl, ipv4), Answer(AAAA, ttl, ipv6)) if ipv4 else (Answer(AAAA, ttl, ipv6),)


def srv_heads(ports: tuple[Port, ...], candidates: int) -> tuple[bytes, ...]:
    """The SRV data in front of the target, one for each distinct port number.

    Every candidate counts for the weight, also the ports without a number and the duplicates that then collapse.
    """
    return _srv_heads(ports, max(1, SRV_WEIGHT // max(1, candidates)))


@lru_cache(maxsize=4096)
def _srv_heads(ports: tuple[Port, ...], weight: int) -> tuple[bytes, ...]:
    numbers = dict.fromkeys(port.number for port in ports)
    return tuple([pack(">HHH", SRV_PRIORITY, weight, number) for number in numbers if 0 <= number <= 65_535])


def answer(node: Node | None, rtype: int) -> Answer | None:
    """What a node answers for one type, if it does."""
    for found in (node and node.answers) or ():
        if found.rtype == rtype:
            return found
    return None
