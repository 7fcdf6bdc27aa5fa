"""Plots of results, as SVG. They need matplotlib, which `make bench` installs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError

# One colour a server, the same in every plot; user space is the full colour, the kernel its lighter half.
COLOURS = {
    "kdns": "#1b6ca8",
    "knot": "#d1495b",
    "nsd": "#edae49",
    "unbound": "#66a182",
    "bind": "#8d6a9f",
    "dnsmasq": "#a68a64",
    "coredns": "#2e4057",
    "node-cache": "#7d8597",
}
OTHER_COLOUR = "#999999"
KERNEL_ALPHA = 0.45


def draw_costs(loads: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """CPU per query by load and peer, user and kernel stacked, one panel a load."""
    pyplot = _pyplot()
    columns = 4
    rows = -(-len(loads) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4 * columns, 2.4 * rows), squeeze=False)
    for place, (load, by_peer) in enumerate(loads.items()):
        axis = axes[place // columns][place % columns]
        peers = sorted(by_peer, key=lambda peer: by_peer[peer]["cost_us"], reverse=True)
        user = [by_peer[peer]["user_us"] for peer in peers]
        kernel = [by_peer[peer]["kernel_us"] for peer in peers]
        colours = [COLOURS.get(peer, OTHER_COLOUR) for peer in peers]
        axis.barh(peers, kernel, color=colours, alpha=KERNEL_ALPHA)
        bars = axis.barh(peers, user, left=kernel, color=colours)
        axis.bar_label(
            bars, labels=[f" {one + other:.1f}" for one, other in zip(user, kernel, strict=True)], fontsize=8
        )
        axis.set_title(load, fontsize=10, loc="left")
        axis.margins(x=0.2)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for place in range(len(loads), rows * columns):
        axes[place // columns][place % columns].set_visible(False)
    figure.suptitle("CPU per query in microseconds: kernel (light) and user space", fontsize=12, x=0.01, ha="left")
    _save(figure, path)


def draw_latencies(latencies: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """p50, p99 and p99.9 against the rate, by peer, one panel a load."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(len(latencies), 3, figsize=(14, 3.2 * len(latencies)), squeeze=False, sharex="row")
    for row, (load, by_peer) in enumerate(latencies.items()):
        for column, (name, title) in enumerate((("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9"))):
            axis = axes[row][column]
            for peer, points in by_peer.items():
                rates = [point["rate"] / 1000 for point in points]
                times = [point[name] for point in points]
                axis.plot(rates, times, marker="o", label=peer, color=COLOURS.get(peer, OTHER_COLOUR))
            axis.set_yscale("log")
            axis.set_title(f"{load}: {title} in microseconds", fontsize=10, loc="left")
            axis.set_xlabel("thousand queries/s", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        axes[row][0].legend(fontsize=8, frameon=False)
    _save(figure, path)


def draw_churn(by_peer: Mapping[str, Any], path: Path) -> None:
    """Answers a second, and their 99th percentile, before, during and after the changes."""
    pyplot = _pyplot()
    figure, (rates, tails) = pyplot.subplots(2, 1, figsize=(10, 5.5), sharex=True)
    for peer, row in by_peer.items():
        colour = COLOURS.get(peer, OTHER_COLOUR)
        seconds = [point[0] for point in row["timeline"]]
        rates.plot(seconds, [point[1] for point in row["timeline"]], label=peer, color=colour)
        tails.plot(seconds, [max(1, point[2]) for point in row["timeline"]], label=peer, color=colour)
    ends = [row["marks"][1] for row in by_peer.values()]
    for axis in (rates, tails):
        axis.axvspan(0, max(ends), color="#000000", alpha=0.06, linewidth=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    rates.set_ylim(bottom=0)
    rates.set_title("answers per second; changes while it is grey", fontsize=10, loc="left")
    rates.legend(fontsize=8, frameon=False)
    tails.set_yscale("log")
    tails.set_title("99th percentile of their latency in microseconds", fontsize=10, loc="left")
    tails.set_xlabel("seconds", fontsize=8)
    _save(figure, path)


def draw_sizes(by_peer: Mapping[str, Any], path: Path) -> None:
    """Memory, and the CPU it takes to follow, against the number of Services."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6))
    columns = (
        ("PSS in MiB", "pss_kib", 1 / 1024),
        ("CPU until all is answered, in seconds", "cpu_seconds", 1),
        ("time until all is answered, in seconds", "wall_seconds", 1),
    )
    for axis, (title, name, unit) in zip(axes, columns, strict=True):
        for peer, rows in by_peer.items():
            sizes = [row["services"] for row in rows]
            values = [row[name] * unit for row in rows]
            axis.plot(sizes, values, marker="o", label=peer, color=COLOURS.get(peer, OTHER_COLOUR))
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("Services", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    _save(figure, path)


def draw_cores(by_load: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """CPU per query against the number of cores, one panel a load."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, len(by_load), figsize=(4.5 * len(by_load), 3.6), squeeze=False)
    for axis, (load, by_peer) in zip(axes[0], by_load.items(), strict=True):
        for peer, by_count in by_peer.items():
            points = sorted((int(count), row["cost_us"]) for count, row in by_count.items())
            colour = COLOURS.get(peer, OTHER_COLOUR)
            axis.plot([count for count, _ in points], [cost for _, cost in points], "o-", label=peer, color=colour)
        axis.set_ylim(bottom=0)
        axis.set_title(f"{load}: CPU per query in microseconds", fontsize=10, loc="left")
        axis.set_xlabel("cores", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=8, frameon=False)
    _save(figure, path)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise BenchError("plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size
    matplotlib.rcParams["svg.hashsalt"] = "kdns"  # the same plot twice is the same file
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    _pyplot().close(figure)
