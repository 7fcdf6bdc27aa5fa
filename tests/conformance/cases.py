"""The conformance data: one YAML file for each scenario, read into values.

The format is described in README.md beside the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import yaml

from tests.harness.exchange import TCP, TRANSPORTS, UDP
from tests.harness.manifests import KubernetesObject

DATA = Path(__file__).with_name("data")
WAITING = Path(__file__).with_name("waiting.yaml")
SECTIONS = ("answer", "authority", "additional")
TRANSFERS = frozenset({"AXFR", "IXFR"})

_SCENARIO_KEYS = frozenset(
    {"name", "area", "corefile", "objects", "queries", "steps", "upstream", "local_ips", "client_ip"}
    | {"resolv_search", "synced", "case_sensitive"}
)
_QUERY_KEYS = frozenset(
    {"id", "step", "q", "type", "class", "transport", "edns", "client_ip", "rcode", "aa", "tc", "opt", "note"}
    | {"quirk", "case_sensitive", *SECTIONS, "answer_subset_of", "additional_subset_of"}
)
# The C loader reads the data in a tenth of the time, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class ResourceRecord:
    """One record in presentation form; the serial of an SOA is 0, for no test can know it."""

    owner: str
    ttl: int
    rclass: str
    rtype: str
    rdata: str

    @classmethod
    def parse(cls, line: str) -> ResourceRecord:
        """The record a zone-file line says."""
        owner, ttl, rclass, rtype, rdata = line.split(None, 4)
        value = dns.rdata.from_text(rclass, rtype, rdata, origin=None, relativize=False)
        return cls.of(dns.name.from_text(owner), int(ttl), value)

    @classmethod
    def of(cls, owner: dns.name.Name, ttl: int, value: dns.rdata.Rdata) -> ResourceRecord:
        """The record of dnspython's values."""
        if value.rdtype == dns.rdatatype.SOA:
            value = value.replace(serial=0)
        rclass, rtype = dns.rdataclass.to_text(value.rdclass), dns.rdatatype.to_text(value.rdtype)
        return cls(owner.to_text(), ttl, rclass, rtype, value.to_text())

    def folded(self) -> ResourceRecord:
        """The same with names in lower case; so is text data, which no case here tells apart by its case."""
        return ResourceRecord(self.owner.lower(), self.ttl, self.rclass, self.rtype, self.rdata.lower())


@dataclass(frozen=True, slots=True)
class Query:
    """One query and the reply expected."""

    id: str
    step: int
    qname: str
    qtype: str
    qclass: str
    transports: tuple[str, ...]
    client: str | None
    edns: Mapping[str, Any] | None
    rcode: str
    aa: bool
    tc: bool
    exact: Mapping[str, tuple[ResourceRecord, ...]]  # by section
    subset: Mapping[str, tuple[ResourceRecord, ...]]  # by section: the records a truncated reply may choose from
    opt: Mapping[str, Any] | None
    is_opt_given: bool
    is_case_sensitive: bool
    is_forwarding: bool  # a reply may come from another server, with flags of its own

    def message(self) -> dns.message.Message:
        """The query to send, with RD set."""
        message = dns.message.make_query(dns.name.from_text(self.qname), self.qtype, self.qclass, flags=dns.flags.RD)
        if self.edns is not None:
            options: list[dns.edns.Option] = [
                dns.edns.GenericOption(dns.edns.OptionType.make(option["code"]), bytes.fromhex(option["hex"]))
                for option in self.edns.get("options", [])
            ]
            message.use_edns(
                self.edns.get("version", 0),
                dns.flags.DO if self.edns.get("do") else 0,
                self.edns.get("bufsize", 1232),
                options=options,
            )
        return message


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the cluster."""

    apply: Sequence[KubernetesObject]
    delete: Sequence[KubernetesObject]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file: a Corefile, a cluster, its changes, and what is asked."""

    name: str
    corefile: str
    objects: Sequence[KubernetesObject]
    steps: Sequence[Step]
    queries: Sequence[Query]
    local_addresses: Sequence[str]
    client_addresses: Sequence[str]
    search_domains: Sequence[str]
    upstream: Sequence[ResourceRecord]
    is_synced: bool
    has_upstream: bool = field(default=False)

    @property
    def needs_addresses(self) -> bool:
        """Whether the server's host needs addresses, or files, of its own."""
        return bool(self.local_addresses or self.client_addresses or self.search_domains)

    def queries_at(self, step: int, transport: str) -> list[Query]:
        """What is asked after the first `step` changes over one transport."""
        return [query for query in self.queries if query.step == step and transport in query.transports]


def scenario_paths() -> list[Path]:
    """The files of the project's data."""
    return sorted(DATA.glob("*.yaml"))


def waiting() -> dict[str, str]:
    """The scenarios that cannot pass yet: name to what they wait for."""
    return dict(yaml.load(WAITING.read_text(), _LOADER) or {})


def load(path: Path) -> Scenario:
    """Read one file; an unknown key is an error, for it would be something nobody checks."""
    document = yaml.load(path.read_text(), _LOADER)
    _refuse_unknown(path, document, _SCENARIO_KEYS)
    for query in document["queries"]:
        _refuse_unknown(path, query, _QUERY_KEYS)
    queries = [_query(query, document) for query in document["queries"]]
    return Scenario(
        name=path.stem,
        corefile=document["corefile"],
        objects=document["objects"],
        steps=[Step(step.get("apply", []), step.get("delete", [])) for step in document.get("steps", [])],
        queries=queries,
        local_addresses=document.get("local_ips", []),
        client_addresses=sorted({query.client for query in queries if query.client}),
        search_domains=document.get("resolv_search", []),
        upstream=[ResourceRecord.parse(line) for line in document.get("upstream", [])],
        is_synced=document.get("synced", True),
        has_upstream="upstream" in document,
    )


def _query(raw: Mapping[str, Any], document: Mapping[str, Any]) -> Query:
    return Query(
        id=raw["id"],
        step=raw.get("step", 0),
        qname=raw["q"],
        qtype=raw["type"],
        qclass=raw.get("class", "IN"),
        transports=_transports(raw),
        client=raw.get("client_ip", document.get("client_ip")),
        edns=raw.get("edns"),
        rcode=raw["rcode"],
        aa=raw["aa"],
        tc=raw.get("tc", False),
        exact={name: _records(raw.get(name, ())) for name in SECTIONS if f"{name}_subset_of" not in raw},
        subset={name: _records(raw[f"{name}_subset_of"]) for name in SECTIONS if f"{name}_subset_of" in raw},
        opt=raw.get("opt"),
        is_opt_given="opt" in raw,
        is_case_sensitive=raw.get("case_sensitive", document.get("case_sensitive", False)),
        is_forwarding="upstream" in document,
    )


def _transports(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """A query is asked over both, unless it says TCP or is about a transfer, which the two treat differently."""
    if "transport" in raw:
        return (raw["transport"],)
    return (UDP,) if raw["type"] in TRANSFERS else TRANSPORTS


def _records(lines: Sequence[str]) -> tuple[ResourceRecord, ...]:
    return tuple(ResourceRecord.parse(line) for line in lines)


def _refuse_unknown(path: Path, found: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = set(found) - known
    if unknown:
        raise ValueError(f"{path.name}: unknown keys {sorted(unknown)}")


__all__ = [
    "DATA",
    "SECTIONS",
    "TCP",
    "TRANSFERS",
    "TRANSPORTS",
    "UDP",
    "Query",
    "ResourceRecord",
    "Scenario",
    "Step",
    "load",
    "scenario_paths",
    "waiting",
]
