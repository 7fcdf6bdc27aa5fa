"""The loads: what is asked, over what, and which rcodes the answers must have.

A load is a name, a way to draw questions from a cluster and a way to send them. Adding one is adding a line to LOADS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, cycle, islice
from pathlib import Path

from bench.cluster import ZONE, Cluster, Service
from bench.errors import BenchError
from bench.outside import OUTSIDE_ZONE, known_names
from bench.records import Question, reverse_name, service_name

QUESTIONS = 100_000  # in a file; many times the names of a small cluster, so that caches of the CPU see random names
TCP_CONNECTIONS = 10  # at once: BIND and Knot let no more wait to be accepted, and one left out tries again after 1 s
FLOOD_NAMES = 1_000  # that a flood of NXDOMAIN asks for: few, so that caches of denials can hold them
SAMPLE = 40  # questions of a load that are put to a peer, and compared with the right answer, before it is measured

_OUTSIDE = ("api.github.com", "registry.npmjs.org", "s3.eu-west-1.amazonaws.com", "pypi.org", "telemetry.example.net")

Draw = Callable[[Cluster, random.Random], Iterator[Question]]


class Sender(Enum):
    """What sends a load, and over what."""

    UDP = "dnsperf over UDP"
    EDNS = "dnsperf over UDP, with an OPT record"
    TCP = "dnsperf over TCP, persistent connections"
    ONE_SHOT = "one query a connection (bench.bulk)"
    BULK = "large replies over TCP, persistent connections (bench.bulk)"
    RAW = "prebuilt datagrams (bench.flood)"
    MALFORMED = "prebuilt malformed datagrams (bench.flood)"

    @property
    def is_tcp(self) -> bool:
        """Whether questions go over TCP."""
        return self in (Sender.TCP, Sender.ONE_SHOT, Sender.BULK)


@dataclass(frozen=True, slots=True)
class Load:
    """A load; `draw` yields questions without end, and every answer has one of `rcodes`."""

    name: str
    about: str
    draw: Draw
    sender: Sender = Sender.UDP
    rcodes: frozenset[str] = frozenset({"NOERROR"})  # empty: any
    clients: int = 0  # sockets or connections; 0: as --clients says
    is_outside: bool = False  # its names are not the cluster's: they are forwarded
    is_judged: bool = True  # the right answers follow from the cluster
    per_second: int = 0  # questions no run asked before, for each second of a run; 0: any run asks the same ones

    def questions(self, cluster: Cluster, count: int = QUESTIONS, run: int = 0) -> list[Question]:
        """The first `count` questions of this load, the same ones for the same cluster and number of the run."""
        draw = random.Random(f"{cluster.sizes.seed} {self.name}" + (f" {run}" if self.per_second else ""))
        return list(islice(self.draw(cluster, draw), count))


def recorded_load(questions: Sequence[Question]) -> Load:
    """Recorded questions as a load, in their order and from the start again; nobody knows the right answers."""
    return Load(
        "replay", "recorded questions", lambda cluster, draw: cycle(questions), rcodes=frozenset(), is_judged=False
    )


def write_questions(questions: list[Question], path: Path) -> None:
    """Write a query file as dnsperf reads it."""
    path.write_text("".join(f"{question.name} {question.type}\n" for question in questions), encoding="ascii")


def _hits(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    names = [service_name(service) for service in cluster.clustered]
    while True:
        yield Question(draw.choice(names), "A")


def _zipf(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """A few names asked for all the time, most of them hardly ever: rank by rank, one over the rank."""
    names = [service_name(service) for service in cluster.clustered]
    draw.shuffle(names)
    weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))
    while True:
        for name in draw.choices(names, cum_weights=weights, k=1_000):
            yield Question(name, "A")


def _unique(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """Names below a namespace that nobody asked for before."""
    while True:
        yield Question(f"{draw.getrandbits(64):016x}.{draw.choice(cluster.namespaces)}.svc.{ZONE}", "A")


def _known_outside(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    names = list(known_names())
    while True:
        yield Question(draw.choice(names), "A")


def _unique_outside(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    while True:
        yield Question(f"{draw.getrandbits(64):016x}.{OUTSIDE_ZONE}", "A")


def _nodata(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    return (Question(question.name, "AAAA") for question in _hits(cluster, draw))


def _search_path(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """The misses of `ndots:5`: an outside name below each search domain, A and AAAA together, as glibc walks it."""
    while True:
        outside = draw.choice(_OUTSIDE)
        for domain in (f"{draw.choice(cluster.namespaces)}.svc.{ZONE}", f"svc.{ZONE}", ZONE):
            yield Question(f"{outside}.{domain}", "A")
            yield Question(f"{outside}.{domain}", "AAAA")


def _own_search_path(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """What it takes to find a Service of another namespace by `name.namespace`: a miss, then the hit, A and AAAA."""
    while True:
        service = draw.choice(cluster.clustered)
        short = f"{service.name}.{service.namespace}"
        for domain in (f"{draw.choice(cluster.namespaces)}.svc.{ZONE}", f"svc.{ZONE}"):
            yield Question(f"{short}.{domain}", "A")
            yield Question(f"{short}.{domain}", "AAAA")


def _musl_search_path(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """What musl asks for `name.namespace` and `name.namespace.svc`: A and AAAA of each candidate, both at once.

    It walks as glibc does with three differences that a server meets: never an OPT record; it ends the walk at a name
    that exists without an address, where glibc goes on; and it takes a name for missing if either family is NXDOMAIN,
    which is why both are asked of every candidate here, and AAAA of a hit must be NODATA.
    """
    while True:
        service = draw.choice(cluster.clustered)
        own = f"{draw.choice(cluster.namespaces)}.svc.{ZONE}"
        short = f"{service.name}.{service.namespace}"
        walk = [f"{short}.{own}", f"{short}.svc.{ZONE}"]
        if draw.random() < 0.5:
            walk = [f"{short}.svc.{own}", f"{short}.svc.svc.{ZONE}", f"{short}.svc.{ZONE}"]
        for candidate in walk:
            yield Question(candidate, "A")
            yield Question(candidate, "AAAA")


def _nxdomain_flood(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """Names that do not exist, asked for again and again: what a client with a spelling mistake in its loop does."""
    names = [f"missing-{number}.{draw.choice(cluster.namespaces)}.svc.{ZONE}" for number in range(FLOOD_NAMES)]
    while True:
        yield Question(draw.choice(names), "A")


def _service_srv(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    services = [service for service in cluster.clustered if service.ports[0].name]
    while True:
        service = draw.choice(services)
        yield Question(f"_{service.ports[0].name}._tcp.{service_name(service)}", "SRV")


def _endpoints(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    while True:
        service, address = _draw_endpoint(cluster, draw)
        label = next(label for found, label in service.endpoints() if found == address)
        yield Question(f"{label}.{service_name(service)}", "A")


def _ptr(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    """Reverse names: half of cluster IPs, half of endpoints."""
    cluster_ips = [service.address for service in cluster.clustered if service.address is not None]
    while True:
        yield Question(reverse_name(draw.choice(cluster_ips)), "PTR")
        yield Question(reverse_name(_draw_endpoint(cluster, draw)[1]), "PTR")


def _refused(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    while True:
        yield Question(f"host-{draw.randrange(10_000)}.{draw.choice(_OUTSIDE)}.", "A")


def _headless(size: int, type_: str) -> Draw:
    def draw_headless(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
        services = cluster.headless(size)
        if not services:
            raise BenchError(
                f"this cluster has no headless Service of {size} endpoints: raise --largest or --endpoints"
            )
        prefix = "_http._tcp." if type_ == "SRV" else ""
        while True:
            yield Question(prefix + service_name(draw.choice(services)), type_)

    return draw_headless


# The shares of `mix`: most of the questions of a cluster are search-path misses and AAAA of names that have only A.
MIX: tuple[tuple[int, Draw], ...] = (
    (35, _search_path),
    (30, _hits),
    (20, _nodata),
    (5, _headless(20, "A")),
    (4, _endpoints),
    (3, _service_srv),
    (3, _ptr),
)


def _mix(cluster: Cluster, draw: random.Random) -> Iterator[Question]:
    sources = [source(cluster, draw) for _, source in MIX]
    shares = [share for share, _ in MIX]
    while True:
        yield next(draw.choices(sources, shares)[0])


def _draw_endpoint(cluster: Cluster, draw: random.Random) -> tuple[Service, int]:
    service = draw.choice(cluster.services)
    return service, service.first_pod + draw.randrange(service.endpoint_count)


_NEGATIVE = frozenset({"NXDOMAIN"})
_FORMAT_ERROR = frozenset({"FORMERR"})

LOADS: dict[str, Load] = {
    load.name: load
    for load in (
        Load("hits", "A of random ClusterIP Services", _hits),
        Load("zipf", "the same, a few Services asked for most of the time", _zipf),
        Load("edns", "hits with EDNS", _hits, Sender.EDNS),
        Load("nxdomain", "outside names along the search path of ndots:5", _search_path, rcodes=_NEGATIVE),
        Load(
            "ndots",
            "Services of other namespaces along the search path: a miss, then the hit, A and AAAA",
            _own_search_path,
            rcodes=frozenset({"NOERROR", "NXDOMAIN"}),
        ),
        Load(
            "musl",
            "the same as musl asks it: A and AAAA at once, no EDNS, longer names too",
            _musl_search_path,
            rcodes=frozenset({"NOERROR", "NXDOMAIN"}),
        ),
        Load("nxdomain-flood", "1,000 names that do not exist, again and again", _nxdomain_flood, rcodes=_NEGATIVE),
        Load("unique", "names that nobody asked for before", _unique, rcodes=_NEGATIVE, per_second=150_000),
        Load("nodata", "AAAA of random Services, which have only A", _nodata),
        Load("srv", "SRV of a named port of random ClusterIP Services", _service_srv),
        Load("endpoints", "A of random endpoint names", _endpoints),
        Load("ptr", "PTR of cluster IPs and endpoints", _ptr),
        Load("headless-20", "A of headless Services of 20 endpoints", _headless(20, "A")),
        Load("headless-1000", "A of headless Services of 1,000 endpoints", _headless(1_000, "A")),
        Load("headless-5000", "A of a headless Service of 5,000 endpoints", _headless(5_000, "A")),
        Load("srv-20", "SRV of headless Services of 20 endpoints", _headless(20, "SRV")),
        Load("srv-1000", "SRV of headless Services of 1,000 endpoints", _headless(1_000, "SRV")),
        Load("srv-5000", "SRV of a headless Service of 5,000 endpoints", _headless(5_000, "SRV")),
        Load("refused", "names outside the zones", _refused, rcodes=frozenset({"REFUSED"})),
        Load("mix", "what a cluster asks; shares in bench/loads.py", _mix, rcodes=frozenset({"NOERROR", "NXDOMAIN"})),
        Load(
            "tcp",
            f"hits over {TCP_CONNECTIONS} persistent connections, pipelined",
            _hits,
            Sender.TCP,
            clients=TCP_CONNECTIONS,
        ),
        Load("tcp-one-shot", "hits over TCP, a connection each", _hits, Sender.ONE_SHOT, clients=20),
        Load(
            "tcp-5000",
            "A of a headless Service of 5,000 endpoints over TCP, 64 KiB a reply",
            _headless(5_000, "A"),
            Sender.BULK,
            clients=20,
        ),
        Load("formerr", "malformed queries, answered with FORMERR", _hits, Sender.MALFORMED, _FORMAT_ERROR),
        Load("hits-raw", "hits from the sender of `formerr`: what its figures compare with", _hits, Sender.RAW),
        Load("cached", "outside names that are in the cache", _known_outside, is_outside=True),
        Load(
            "forwarded",
            "outside names that nobody asked for before",
            _unique_outside,
            is_outside=True,
            per_second=80_000,
        ),
    )
}


def parse_loads(text: str) -> list[Load]:
    """The loads named in `text`, separated by commas; "all" is all of them."""
    names = list(LOADS) if text == "all" else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in LOADS]
    if unknown:
        raise BenchError(f"unknown load {unknown[0]!r}: expected some of {', '.join(LOADS)}")
    return [LOADS[name] for name in names]
