"""The conformance cases, as far as records decide them: what is left out here needs messages or other plugins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdns.cluster.objects import Event, Kind
from kdns.cluster.raw import decode
from kdns.cluster.selectors import Selector
from kdns.cluster.store import Store
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.cluster.resolution import RecordServer, line

DATA = Path(__file__).parent.parent / "conformance" / "data"
PLUGINS = {"errors", "kubernetes", "forward"}
OPTIONS = {"pods", "ttl", "namespaces", "namespace_labels", "labels", "endpoint_pod_names", "noendpoints", "ignore"}
OPTIONS |= {"multicluster", "zonal"}
KINDS = {kind.value: kind for kind in Kind}


@cache
def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    return found


def is_applicable(case: dict[str, Any]) -> bool:
    words = [text.split() for text in re.sub(r"\{\$\w+\}", "upstream", case["corefile"]).splitlines() if text.strip()]
    return (
        case.get("synced", True)
        and {text[0] for text in words[1:-1] if text[0] != "}"} - OPTIONS <= PLUGINS
        and not any(text[0] == "fallthrough" for text in words)
    )


def is_plain(query: dict[str, Any]) -> bool:
    """Whether records alone decide a query: not its size, its class, its options or a transfer."""
    return (
        "answer" in query
        and not query.get("tc")
        and query.get("class", "IN") == "IN"
        and query["rcode"] in ("NOERROR", "NXDOMAIN", "SERVFAIL")
        and query["type"] not in ("AXFR", "IXFR")
    )


def zones_of(text: str) -> list[bytes]:
    """A zone, or the reverse zones of a CIDR."""
    if "/" not in text:
        return [names.from_text(re.sub(r":\d+$", "", text))]
    network = ip_network(text)
    step = 8 if network.version == 4 else 4
    wide = -(-network.prefixlen // step) * step
    return [
        names.from_text(subnet.network_address.reverse_pointer.split(".", (subnet.max_prefixlen - wide) // step)[-1])
        for subnet in network.subnets(new_prefix=wide)
    ]


def view_of(case: dict[str, Any]) -> View:
    """The view of a Corefile as simple as those of the cases."""
    rows = [text.split() for text in case["corefile"].splitlines()]
    keys = [word for word in rows[0] if word != "{"]
    options = {row[0]: row[1:] for row in rows if row and row[0] in OPTIONS}
    arguments = next(row[1:] for row in rows if row and row[0] == "kubernetes")
    zones = [zone for word in [word for word in arguments if word != "{"] or keys for zone in zones_of(word)]

    def selector(option: str) -> Selector | None:
        return Selector.parse(" ".join(options[option])) if option in options else None

    return View(
        zones=tuple(zones),
        ttl=int(options.get("ttl", ["5"])[0]),
        pods=PodMode(options.get("pods", ["disabled"])[0]),
        namespaces=frozenset(options.get("namespaces", [])),
        labels=selector("labels"),
        namespace_labels=selector("namespace_labels"),
        endpoint_pod_names="endpoint_pod_names" in options,
        noendpoints="noendpoints" in options,
        ignore_empty_service="ignore" in options,
        multicluster=tuple(map(names.from_text, options.get("multicluster", []))),
        zonal="zonal" in options,
        local_addresses=tuple(filter(None, map(names.pack_address, case.get("local_ips") or []))),
    )


def events_of(manifests: list[dict[str, Any]]) -> Iterator[Event]:
    for raw in manifests:
        if raw["kind"] in KINDS:
            event = decode(KINDS[raw["kind"]], raw).event
            if event is not None:
                yield event


def stages(case: dict[str, Any]) -> Iterator[RecordServer]:
    """A server before the first step, then after each, kept up to date by changes alone."""
    view = view_of(case)
    store = Store(view, lambda: 1.7e9)
    server = RecordServer(view, case.get("upstream") or ())
    for event in events_of(case["objects"]):
        store.apply(event)
    server.update(store.all_nodes())
    yield server
    for step in case.get("steps") or ():
        for event in events_of(step.get("apply") or []):
            store.apply(event)
        for gone in step.get("delete") or ():
            store.apply(Event(KINDS[gone["kind"]], gone.get("namespace") or "", gone["name"], None))
        server.update(store.take_changes())
        yield server


def cases() -> Iterator[Any]:
    for path in sorted(DATA.glob("*.yaml")):
        if is_applicable(load(path)) and any(map(is_plain, load(path)["queries"])):
            yield pytest.param(path, id=path.stem)


@pytest.mark.parametrize("path", list(cases()))
def test_conformance_case_is_answered_as_it_says(path: Path) -> None:
    case = load(path)
    asked = 0
    for step, server in enumerate(stages(case)):
        for query in case["queries"]:
            if query.get("step", 0) != step or not is_plain(query):
                continue
            reply = server.ask(query["q"], query["type"])
            told = f"{query['id']}: {query['q']} {query['type']} at step {step}"
            assert reply.rcode == query["rcode"], told
            assert reply.answer == Counter(map(line, query["answer"])), told
            if "additional" in query:
                # Which records of a long list are sent along is the message's business.
                assert reply.additional == Counter(set(map(line, query["additional"]))), told
            asked += 1
    assert asked


def test_most_cases_apply() -> None:
    assert len(list(cases())) >= 35
