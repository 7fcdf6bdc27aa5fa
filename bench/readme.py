"""The figures of bench/README.md: written between two markers, from kept results, with their plots beside the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.plots import draw_churn, draw_cores, draw_costs, draw_latencies, draw_sizes
from bench.report import Document, latency_table, read_results, scenario_lines, size_table, start_table
from bench.results import BASE

README = Path(__file__).parent / "README.md"
FIGURES = "figures"  # the folder of the plots, beside the page
_PATH = re.compile(r"(?<!\S)(?:/[\w.-]+)+/")  # folders of the machine: nobody else's matter
BEGIN = "<!-- figures: written by `python -m bench readme` -->"
END = "<!-- end of the figures -->"


def write_readme(paths: Sequence[Path], page: Path = README) -> list[Path]:
    """Write what stands between the markers of `page`, and the plots; returns all that was written."""
    document = merge([read_results(path) for path in paths])
    try:
        text = page.read_text()
    except OSError as error:
        raise BenchError(f"{page}: {error.strerror}; expected a page with the line {BEGIN}") from error
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{page}: expected the lines {BEGIN} and {END}")
    folder = page.parent / FIGURES
    folder.mkdir(exist_ok=True)
    lines = list(_figures(document, folder))
    page.write_text(f"{head}{BEGIN}\n" + "\n".join(lines).rstrip() + f"\n{END}{tail}")
    return [page, *sorted(folder.glob("*.svg"))]


def merge(documents: Sequence[Document]) -> Document:
    """One document of several: of each part that is not empty, the latest."""
    merged: Document = {}
    for document in documents:
        for name, part in document.items():
            old = merged.get(name)
            if isinstance(part, dict) and isinstance(old, dict):
                merged[name] = {**old, **part}
            elif part or name not in merged:
                merged[name] = part
    return merged


def _figures(document: Document, folder: Path) -> Iterator[str]:
    machine = document["machine"]
    rounds, seconds = (document["parameters"].get(name, "?") for name in ("rounds", "seconds"))
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}; {machine['system']}, Linux"
        f" {machine['kernel']}; {document['started'][:10]}. {_versions(document)}."
    )
    yield ""
    if document["loads"]:
        yield "### CPU per query"
        yield ""
        yield (
            f"Median microseconds of {rounds} rounds of {seconds} s (in brackets what user space has of it); the last"
            f" column is kdns beside Knot DNS. ! marks a row that was noisy."
        )
        yield ""
        yield from _cost_table(document["loads"])
        draw_costs(document["loads"], folder / "costs.svg")
        yield f"![CPU per query by load and server, kernel and user space]({FIGURES}/costs.svg)"
        yield ""
    if document.get("latencies"):
        yield "### Latency"
        yield ""
        draw_latencies(document["latencies"], folder / "latencies.svg")
        yield f"![Percentiles of latency against the rate]({FIGURES}/latencies.svg)"
        yield ""
        yield from latency_table(document["latencies"])
    if document.get("starts"):
        yield "### Start and memory"
        yield ""
        yield from start_table(document["starts"])
    if document.get("by_cores"):
        yield "### Cores"
        yield ""
        draw_cores(document["by_cores"], folder / "cores.svg")
        yield f"![CPU per query against cores]({FIGURES}/cores.svg)"
        yield ""
    yield from _scenarios(document.get("scenarios", {}), folder)
    if document["excluded"]:
        yield from _left_out(document["excluded"])


def _left_out(excluded: dict[str, str]) -> Iterator[str]:
    """Which figures there are not, and why; latencies the load could not measure in one line a server."""
    yield "### Left out"
    yield ""
    latencies: dict[str, list[str]] = {}
    for what, reason in excluded.items():
        peer, mark, load = what.partition(" in latencies of ")
        if mark:
            latencies.setdefault(peer, []).append(load.replace(" at ", " "))
        else:
            yield f"- {what}: {_PATH.sub('', reason.splitlines()[0])}"
    for peer, loads in latencies.items():
        yield f"- latencies of {peer}, where the load would have measured its own waits: {', '.join(loads)}"
    yield ""


def _scenarios(scenarios: Document, folder: Path) -> Iterator[str]:
    played = {name: by_peer for name, by_peer in scenarios.items() if name != "sizes"}
    if played:
        yield "### When something happens"
        yield ""
        yield from scenario_lines(played)
    if "churn" in played:
        draw_churn(played["churn"], folder / "churn.svg")
        yield f"![Answers and their 99th percentile through a churn storm]({FIGURES}/churn.svg)"
        yield ""
    if "sizes" in scenarios:
        yield "### Size of the cluster"
        yield ""
        draw_sizes(scenarios["sizes"], folder / "sizes.svg")
        yield f"![Memory and time to follow against the size of the cluster]({FIGURES}/sizes.svg)"
        yield ""
        yield from size_table(scenarios["sizes"])


def _cost_table(loads: Document) -> Iterator[str]:
    present = {peer for by_peer in loads.values() for peer in by_peer}
    peers = [peer for peer in (BASE, *sorted(present - {BASE, "kdns"}), "kdns") if peer in present]
    yield "| load | " + " | ".join(peers) + " | kdns / knot |"
    yield "| --- |" + " ---: |" * (len(peers) + 1)
    for load, by_peer in loads.items():
        cells = [_cell(by_peer.get(peer)) for peer in peers]
        both = BASE in by_peer and "kdns" in by_peer and by_peer[BASE]["cost_us"]
        ratio = f"{by_peer['kdns']['cost_us'] / by_peer[BASE]['cost_us']:.2f}" if both else ""
        yield f"| `{load}` | " + " | ".join(cells) + f" | {ratio} |"
    yield ""


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    is_noisy = any(note.endswith(": repeat") for note in row["notes"])
    return f"{row['cost_us']:.2f} ({row['user_us']:.2f}){' !' if is_noisy else ''}"


def _versions(document: Document) -> str:
    return "; ".join(f"{name}: {version}" for name, version in sorted(document["versions"].items()))
