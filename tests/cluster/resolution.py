"""Answers a question from nodes as a server would, at the level of records: no messages, no sockets, no cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from kdns.cluster import owners, records
from kdns.cluster.view import PodMode, View
from kdns.cluster.zones import WILDCARD
from kdns.dns import names
from kdns.dns.rrset import Answer, Node, Record


class Reply(NamedTuple):
    """What a reply says: records as comparable lines, with how often each occurs."""

    rcode: str
    answer: Counter[str]
    additional: Counter[str]


def line(text: str) -> str:
    """A record `name ttl IN TYPE rdata` in the one spelling compared."""
    owner, ttl, _, rtype, rdata = text.split(None, 4)
    parsed = dns.rdata.from_text("IN", rtype, rdata)
    return f"{dns.name.from_text(owner)} {ttl} {rtype} {parsed.to_text()}".lower()


def line_of(record: Record) -> str:
    """The same, of a record made here; reading it proves that its data is well formed."""
    rtype = dns.rdatatype.RdataType(record.rtype)
    parsed = dns.rdata.from_wire(dns.rdataclass.IN, rtype, record.rdata, 0, len(record.rdata))
    owner, _ = dns.name.from_wire(record.owner, 0)
    return f"{owner} {record.ttl} {dns.rdatatype.to_text(rtype)} {parsed.to_text()}".lower()


class RecordServer:
    """Keeps nodes as a table does, and looks up what the table leaves to look-ups."""

    def __init__(self, view: View, upstream: Iterable[str] = ()) -> None:
        self.nodes: dict[bytes, Node] = {}
        self._view = view
        self._upstream: dict[str, list[str]] = {}
        for text in upstream:
            self._upstream.setdefault(line(text).split()[0], []).append(line(text))

    def update(self, nodes: Iterable[Node]) -> None:
        """Take nodes in, and those gone out."""
        for node in nodes:
            if node.answers is None:
                self.nodes.pop(node.owner, None)
            else:
                self.nodes[node.owner] = node

    def ask(self, qname: str, qtype: str) -> Reply:
        """The reply to a question; SERVFAIL where the view has no zone for it."""
        name = names.from_text(qname)
        zone = names.longest_zone(name, self._view.zones)
        if zone is None:
            return Reply("SERVFAIL", Counter(), Counter())
        if name == zone and qtype == "SOA":
            apex = names.to_text(zone)
            host = "" if apex == "." else apex
            ttl = self._view.ttl
            soa = f"{apex} {min(ttl, 300)} IN SOA ns.dns.{host} hostmaster.{host} 0 7200 1800 86400 {ttl}"
            return Reply("NOERROR", Counter([line(soa)]), Counter())
        node = self._find(name, zone)
        if node is None:
            return Reply("NXDOMAIN", Counter(), Counter())
        answer = records.answer(node, dns.rdatatype.from_text(qtype))
        if answer is None:
            return Reply("NOERROR", Counter(), Counter())
        return Reply("NOERROR", self._answer_lines(name, answer, qtype), Counter(map(line_of, answer.additional)))

    def _answer_lines(self, name: bytes, answer: Answer, qtype: str) -> Counter[str]:
        owner = answer.chain[-1].rdata if answer.chain else name
        made = [Record(owner, answer.rtype, answer.ttl, rdata) for rdata in answer.all_rdatas]
        lines = Counter([line_of(record) for record in (*answer.chain, *made)])
        if answer.leaves_zone:
            target = names.to_text(answer.chain[-1].rdata)
            if names.longest_zone(answer.chain[-1].rdata, self._view.zones) is not None:
                return lines + self.ask(target, qtype).answer
            return lines + self._ask_upstream(target, qtype)
        return lines

    def _ask_upstream(self, target: str, qtype: str) -> Counter[str]:
        found = self._upstream.get(target, [])
        exact = [text for text in found if text.split()[2] == qtype.lower()]
        aliases = [text for text in found if text.split()[2] == "cname"]
        if exact or not aliases:
            return Counter(exact)
        return Counter(aliases) + self._ask_upstream(aliases[0].split()[3], qtype)

    def _find(self, name: bytes, zone: bytes) -> Node | None:
        node = self.nodes.get(name) or self._find_spelled(name, zone) or self._find_wildcard(name)
        if node is None:
            return self._find_pod(name, zone)
        return self.nodes[node.alias_of] if node.alias_of else node

    def _find_spelled(self, name: bytes, zone: bytes) -> Node | None:
        """The node of a port whose underscores were left out."""
        above = names.parents(name)
        if len(above) < 3 or above[2] not in self.nodes or not self.nodes[above[2]].has_ports:
            return None
        labels = [name[: name[0] + 1], above[1][: above[1][0] + 1]]
        if zone in self._view.multicluster and not any(label[1:2] == b"_" for label in labels):
            return None
        return self.nodes.get(b"".join(map(owners.underscored, labels)) + above[2])

    def _find_wildcard(self, name: bytes) -> Node | None:
        found = [self.nodes.get(WILDCARD + parent) for parent in names.parents(name)[1:]]
        return next((node for node in found if node), None) if self._view.zonal else None

    def _find_pod(self, name: bytes, zone: bytes) -> Node | None:
        """The node of a Pod, of whom only the address and the namespace are looked at."""
        above = names.parents(name[: len(name) - len(zone)] + names.ROOT)
        if not 4 <= len(above) <= 6 or above[-2] != b"\x03pod\0":
            return None
        pod = above[-4][:-1] + zone
        if self._view.pods is PodMode.VERIFIED:
            return self.nodes.get(pod)
        namespace = above[-3][:-1] + zone
        label = names.labels_of(pod)[0].decode()
        address = owners.pod_address(label)
        if self._view.pods is not PodMode.INSECURE or namespace not in self.nodes or address is None:
            return None
        return Node(name, records.address_answers(self._view.ttl, (address,)))
