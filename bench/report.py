"""Kept results as a page to read: a table for each load, plots, and what differs between two of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.plots import draw_churn, draw_cores, draw_costs, draw_latencies, draw_sizes
from bench.scenarios.outcome import delays_text

Document = dict[str, Any]


def read_results(path: Path) -> Document:
    """A file that a run has written; raises BenchError that says what it is instead."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}; results are written to the folder `results`") from error
    except ValueError as error:
        raise BenchError(
            f"{path}: no JSON ({error}); expected a file that `python -m bench run` has written"
        ) from error
    if not isinstance(document, dict) or "loads" not in document or "machine" not in document:
        raise BenchError(f"{path}: no results of this bench: it has no `loads` and no `machine`")
    return document


def write_report(paths: Sequence[Path], folder: Path) -> Path:
    """Write `report.md` and its plots into `folder`, from one or more results; returns the page's path."""
    documents = [read_results(path) for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[str] = []
    for path, document in zip(paths, documents, strict=True):
        parts += _page(document, path.stem, folder)
    if len(documents) > 1:
        parts += ["## What differs", "", *compare(documents[0], documents[-1])]
    page = folder / "report.md"
    page.write_text("\n".join(parts) + "\n")
    return page


def _page(document: Document, stem: str, folder: Path) -> Iterator[str]:
    machine = document["machine"]
    yield f"# {document['started']}"
    yield ""
    yield f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Linux {machine['kernel']}. "
    yield f"Medians of {document['parameters'].get('rounds', '?')} rounds; `spread` is (largest - smallest) / median."
    yield ""
    if document["loads"]:
        draw_costs(document["loads"], folder / f"{stem}-costs.svg")
        yield f"![CPU per query]({stem}-costs.svg)"
        yield ""
        yield from _cost_table(document["loads"])
    if document.get("latencies"):
        draw_latencies(document["latencies"], folder / f"{stem}-latencies.svg")
        yield f"![Latency against load]({stem}-latencies.svg)"
        yield ""
        yield from latency_table(document["latencies"])
    if document.get("starts"):
        yield from start_table(document["starts"])
    if document.get("by_cores"):
        draw_cores(document["by_cores"], folder / f"{stem}-cores.svg")
        yield f"![CPU per query against cores]({stem}-cores.svg)"
        yield ""
    scenarios = dict(document.get("scenarios", {}))
    sizes = scenarios.pop("sizes", None)
    if scenarios:
        yield from scenario_lines(scenarios)
    if "churn" in scenarios:
        draw_churn(scenarios["churn"], folder / f"{stem}-churn.svg")
        yield f"![Answers through a churn storm]({stem}-churn.svg)"
        yield ""
    if sizes:
        draw_sizes(sizes, folder / f"{stem}-sizes.svg")
        yield f"![Memory against the size of the cluster]({stem}-sizes.svg)"
        yield ""
        yield from size_table(sizes)
    yield "Versions:"
    yield ""
    yield from (f"- {name}: {version}" for name, version in document["versions"].items())
    yield ""
    if document["excluded"]:
        yield "Left out:"
        yield ""
        yield from (f"- {what}: {reason.splitlines()[0]}" for what, reason in document["excluded"].items())
        yield ""


def _cost_table(loads: Document) -> Iterator[str]:
    yield "| load | peer | us/query | user | kernel | spread | queries/s | lost | x knot | notes |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for load, by_peer in loads.items():
        base = by_peer.get("knot", {}).get("cost_us")
        for peer, row in sorted(by_peer.items(), key=lambda item: item[1]["cost_us"]):
            ratio = f"{row['cost_us'] / base:.2f}" if base else ""
            yield (
                f"| {load} | {peer} | {row['cost_us']:.2f} | {row['user_us']:.2f} | {row['kernel_us']:.2f}"
                f" | {row['spread']:.1%} | {row['queries_per_second']:,.0f} | {row['lost']:.2%} | {ratio}"
                f" | {', '.join(row['notes'])} |"
            )
    yield ""


def latency_table(latencies: Document) -> Iterator[str]:
    """Percentiles by load, server and share of its maximum."""
    yield "| load | peer | share | queries/s | p50 us | p99 | p99.9 | max | lost |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for load, by_peer in latencies.items():
        for peer, rows in by_peer.items():
            for row in rows:
                yield (
                    f"| {load} | {peer} | {row['share']} % | {row['rate']:,.0f} | {row['p50_us']:,.0f}"
                    f" | {row['p99_us']:,.0f} | {row['p999_us']:,.0f} | {row['max_us']:,.0f} | {row['lost']:,} |"
                )
    yield ""


def start_table(starts: Document) -> Iterator[str]:
    """What it took each server to come up with the whole cluster, and what it then occupied."""
    yield "| server | first right answers after | CPU until then | PSS after its loads |"
    yield "| --- | ---: | ---: | ---: |"
    for peer, row in starts.items():
        memory = f"{row['pss_kib'] / 1024:,.0f} MiB" if row.get("pss_kib") else ""
        yield f"| {peer} | {row['wall_seconds']:.1f} s | {row['cpu_seconds']:.1f} s | {memory} |"
    yield ""


def scenario_lines(scenarios: Document) -> Iterator[str]:
    """What became of answers in each scenario."""
    yield "| scenario | server | lost | wrong | change to answer | p99 calm | p99 during | max during | and |"
    yield "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |"
    for name, by_peer in scenarios.items():
        for peer, row in by_peer.items():
            calm, event = row["phases"]["calm"], row["phases"]["event"]
            watched = row["watched"]
            foreign = sum(count for rcode, count in row["rcodes"].items() if rcode != "NOERROR")
            yield (
                f"| {name} | {peer} | {row['lost']:,} of {row['sent']:,} | {watched['wrong'] + foreign:,}"
                f" | {delays_text(watched['delays_ms']) if watched['delays_ms'] else ''}"
                f" | {calm['p99_us']:,.0f} us | {event['p99_us']:,.0f} us | {event['max_us'] / 1000:,.1f} ms"
                f" | {', '.join(f'{fact} {value:,.1f}' for fact, value in row['facts'].items())} |"
            )
    yield ""


def size_table(sizes: Document) -> Iterator[str]:
    """What a cluster of each size came to."""
    yield "| Services | endpoints | server | to follow | CPU | PSS |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: |"
    rows = [(row["services"], peer, row) for peer, found in sizes.items() for row in found]
    for services, peer, row in sorted(rows, key=lambda entry: entry[:2]):
        yield (
            f"| {services:,} | {row['endpoints']:,} | {peer} | {row['wall_seconds']:.2f} s | {row['cpu_seconds']:.2f} s"
            f" | {row['pss_kib'] / 1024:,.1f} MiB |"
        )
    yield ""


def compare(before: Document, after: Document) -> Iterator[str]:
    """What became dearer or cheaper: only where the rounds of one run lie all above, or all below, the other's.

    Where both runs measured Knot DNS, costs are taken as ratios to it: machines and their moods differ.
    """
    yield "| load | peer | before | after | change | verdict |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for load, by_peer in before["loads"].items():
        for peer in by_peer:
            rows = [document["loads"].get(load, {}).get(peer) for document in (before, after)]
            if None in rows:
                continue
            units = [_unit(document, load) for document in (before, after)]
            if None in units:
                units = [1.0, 1.0]
            first, second = (
                sorted(sample["cost_us"] / unit for sample in row["samples"])
                for row, unit in zip(rows, units, strict=True)
            )
            middles = first[len(first) // 2], second[len(second) // 2]
            yield (
                f"| {load} | {peer} | {middles[0]:.2f} | {middles[1]:.2f} | {middles[1] / middles[0] - 1:+.1%}"
                f" | {_verdict(first, second)} |"
            )
    yield ""


def _unit(document: Document, load: str) -> float | None:
    row = document["loads"].get(load, {}).get("knot")
    return None if row is None else row["cost_us"]


def _verdict(first: list[float], second: list[float]) -> str:
    if min(len(first), len(second)) < 3:
        return "too few rounds to tell"
    if second[0] > first[-1]:
        return "dearer"
    if second[-1] < first[0]:
        return "cheaper"
    return "no difference beyond the spread"
