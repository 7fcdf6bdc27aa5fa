"""How much memory does kdns need, all of its processes together, with the large cluster and with the example?

What counts is PSS: each page is shared out among the processes that map it, so the sum over all processes counts a
shared page once. Pages shared with programs outside of kdns count in part; the table is kdns's alone. A memfd that is
held open but mapped nowhere would escape PSS, so what all memfds occupy is shown beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import Sizes, generate
from bench.errors import BenchError, PeerError
from bench.loads import LOADS, write_questions
from bench.peers import ADDRESS, ClusterFiles, Kdns
from bench.processes import read_memory
from bench.records import Question, Truth
from bench.run import say, write_files
from bench.verify import ask_and_check, check_has_answer, verify

WARM_UP_SECONDS = 3  # of questions before memory is read, so that what serving touches counts
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a server, in kilobytes; `processes` has PSS, and what of it is private, by title."""

    pss: int
    private: int
    memfd: int
    processes: dict[str, dict[str, int]] = field(repr=False)


def read_tree_memory(processes: dict[int, str]) -> Memory:
    """The memory of `processes` (titles by pid) now."""
    by_title = {}
    memfds: dict[int, int] = {}
    for pid, title in processes.items():
        fields = read_memory(pid)
        private = fields["Private_Clean"] + fields["Private_Dirty"]
        by_title[f"{title} ({pid})"] = {"rss": fields["Rss"], "pss": fields["Pss"], "private": private}
        memfds |= _memfds(pid)
    return Memory(
        pss=sum(fields["pss"] for fields in by_title.values()),
        private=sum(fields["private"] for fields in by_title.values()),
        memfd=sum(memfds.values()),
        processes=by_title,
    )


def measure_generated(sizes: Sizes, workers: int, folder: Path) -> dict[str, Any]:
    """kdns with a generated cluster, after its answers are verified and every kind of question was asked."""
    cluster = generate(sizes)
    truth = Truth(cluster)
    questions = LOADS["mix"].questions(cluster, 10_000)
    peer = _kdns(folder / "kdns", write_files(cluster, folder, [Kdns]), workers)
    try:
        hit = LOADS["hits"].questions(cluster, 1)[0]
        peer.start((), lambda port: ask_and_check(ADDRESS, port, hit, truth))
        verify(ADDRESS, peer.port, questions, truth, over_tcp=False)
        _ask(peer.port, questions, folder)
        peer.check_running()
        memory = read_tree_memory(peer.processes())
    finally:
        peer.stop()
    return {"what": f"{sizes.services:,} Services, {sizes.endpoints:,} endpoints", "workers": workers, **asdict(memory)}


def measure_example(example: Path, question: Question, workers: int, folder: Path) -> dict[str, Any]:
    """kdns with the manifests of a folder, once it answers `question`."""
    if not example.is_dir():
        raise BenchError(f"{example}: no such folder; --example names one with manifests")
    peer = _kdns(folder / "kdns", ClusterFiles(example, {}), workers)
    try:
        peer.start((), lambda port: check_has_answer(ADDRESS, port, question))
        _ask(peer.port, [question], folder)
        peer.check_running()
        memory = read_tree_memory(peer.processes())
    finally:
        peer.stop()
    return {"what": str(example), "workers": workers, **asdict(memory)}


def render(results: list[dict[str, Any]]) -> str:
    """The results as a table, in megabytes."""
    lines = [f"{'':<44} {'PSS':>7} {'private':>8} {'memfds':>7}   MiB"]
    for result in results:
        title = f"{result['what']}, {result['workers']} workers"
        lines.append(f"{title:<44} {_mib(result['pss'])} {_mib(result['private']):>8} {_mib(result['memfd'])}")
        lines += [
            f"    {name:<40} {_mib(fields['pss'])} {_mib(fields['private']):>8}"
            for name, fields in result["processes"].items()
        ]
    return "\n".join(lines)


def _kdns(folder: Path, files: ClusterFiles, workers: int) -> Kdns:
    Kdns.find()
    peer = Kdns(folder, files)
    peer.workers = workers
    return peer


def _ask(port: int, questions: list[Question], folder: Path) -> None:
    """Some seconds of questions, from as many sockets as reach every worker."""
    if shutil.which("dnsperf") is None:
        say("dnsperf is not installed (apt-get install dnsperf): memory is read of a server at rest")
        return
    path = folder / "memory.questions"
    write_questions(questions, path)
    command = ["dnsperf", "-s", ADDRESS, "-p", str(port), "-d", str(path), "-l", str(WARM_UP_SECONDS), "-c", "20"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PeerError(f"{' '.join(command)}: status {result.returncode}: {result.stderr.strip()}")


def _memfds(pid: int) -> dict[int, int]:
    """The kilobytes that each memfd a process holds open occupies, by inode."""
    found = {}
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(entry.path).startswith("/memfd:"):
                status = os.stat(entry.path)
                found[status.st_ino] = status.st_blocks * _BLOCK_BYTES // 1024
        except FileNotFoundError:
            continue
    return found


def _mib(kilobytes: int) -> str:
    return f"{kilobytes / 1024:7.1f}"
