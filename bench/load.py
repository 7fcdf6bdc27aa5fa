"""One run of one load against one server: what was answered, and what it cost the server in CPU time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, PeerError, StalledError
from bench.instructions import InstructionCounter
from bench.loads import Load, Sender
from bench.peers import ADDRESS
from bench.processes import TICKS_PER_SECOND, CpuTime, ProcessStat, core_times
from bench.target import Target
from bench.traffic import Traffic, parse_dnsperf, parse_flood

MAX_LOST = 0.001  # share of the queries; beyond it a sample is marked
MAX_UNANSWERED = 0.1  # share of the queries; a server beyond it drops on purpose, and its cost is that of dropping
MIN_BUSY = 0.03  # share of a core; below it on both sides, the sender waits for something that does not come
_RUN_LIMIT_SECONDS = 30.0  # beyond the asked time: dnsperf waits up to 5 s for the last answers


@dataclass(frozen=True, slots=True)
class Options:
    """How every run of a bench is made."""

    seconds: int = 4
    clients: int = 1  # dnsperf's -c: sockets, or connections
    outstanding: int = 100  # dnsperf's -q: queries under way
    server_cores: tuple[int, ...] = (0,)
    load_core: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. Costs are microseconds of CPU for each completed query, all processes of the server together."""

    traffic: Traffic
    cost_us: float
    user_us: float
    kernel_us: float
    processes_us: dict[str, float]  # cost_us by the title of the process
    server_busy: float  # share of its core that the server used while the load ran
    load_busy: float  # share of its core that the load used; near 1, the load sets the pace
    softirq: float  # share of the server's core that the kernel counted as interrupt work
    steal: float  # share of the server's core that the hypervisor gave to others
    others: float  # share of the server's core that other processes used
    command: str
    instructions: float | None = None  # for each completed query; None where nobody could count them

    def as_json(self) -> dict[str, Any]:
        """The sample as plain values."""
        return asdict(self)


def check_dnsperf() -> None:
    """Raise BenchError that names the package if dnsperf is missing."""
    if shutil.which("dnsperf") is None:
        raise BenchError("dnsperf is not installed; apt-get install dnsperf")


def dnsperf_version() -> str:
    """What dnsperf calls itself."""
    check_dnsperf()
    output = subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"Version (\S+)", output)
    return f"dnsperf {match[1] if match else 'of unknown version'}"


def sender_command(
    load: Load, port: int, questions: Path, seconds: int, options: Options, address: str = ADDRESS
) -> list[str]:
    """The command that sends `load` for some seconds."""
    clients = str(load.clients or options.clients)
    outstanding = str(options.outstanding)
    target = [address, str(port), str(seconds)]
    if load.sender in (Sender.BULK, Sender.ONE_SHOT):
        one_shot = ["--one-shot"] if load.sender is Sender.ONE_SHOT else []
        files = ["--questions", str(questions)]
        return [sys.executable, "-m", "bench.bulk", *target, "--connections", clients, *one_shot, *files]
    if load.sender is Sender.RAW:
        return [
            *(sys.executable, "-m", "bench.flood", *target),
            *("--outstanding", outstanding, "--questions", str(questions)),
        ]
    if load.sender is Sender.MALFORMED:
        return [sys.executable, "-m", "bench.flood", *target, "--outstanding", outstanding]
    return [
        *("dnsperf", "-s", address, "-p", str(port), "-d", str(questions), "-l", str(seconds)),
        *("-c", clients, "-T", "1", "-q", outstanding, "-W"),
        *(["-e"] if load.sender is Sender.EDNS else []),
        *(["-m", "tcp"] if load.sender is Sender.TCP else []),
        *(["-n", "1"] if load.per_second else []),  # a question asked twice would be another load's
    ]


def measure(load: Load, target: Target, questions: Path, seconds: int, options: Options) -> Sample:
    """Run `load` against `target`; raises PeerError if it dies, or answers with another rcode than it should."""
    command = sender_command(load, target.port, questions, seconds, options, target.address)
    target.pin(options.server_cores)
    titles = target.processes()
    core_before = core_times(options.server_cores)
    before = target.tree()
    with InstructionCounter(before) as counter:
        began = time.monotonic()
        output, load_cpu = run_on_core(command, options.load_core, seconds + _RUN_LIMIT_SECONDS)
        elapsed = time.monotonic() - began
    after = target.tree()
    core_after = core_times(options.server_cores)
    target.check_running()

    traffic = parse_dnsperf(output) if command[0] == "dnsperf" else parse_flood(output)
    _check_traffic(load, target, traffic)
    costs = process_costs(before, after)
    total = CpuTime(sum(cpu.user for cpu in costs.values()), sum(cpu.kernel for cpu in costs.values()))
    by_title: dict[str, float] = {}
    for pid, cpu in costs.items():
        title = titles.get(pid, "started later")
        by_title[title] = by_title.get(title, 0.0) + cpu.total * 1e6 / traffic.completed
    core = {name: core_after[name] - core_before[name] for name in core_after}
    core_seconds = max(sum(core.values()), 1 / TICKS_PER_SECOND)
    busy = core_seconds - core["idle"] - core["iowait"] - core["steal"]
    per_query = 1e6 / traffic.completed
    return Sample(
        traffic=traffic,
        cost_us=total.total * per_query,
        user_us=total.user * per_query,
        kernel_us=total.kernel * per_query,
        processes_us=by_title,
        server_busy=total.total / traffic.seconds / len(options.server_cores),
        load_busy=load_cpu / max(elapsed, traffic.seconds),
        softirq=core["softirq"] / core_seconds,
        steal=core["steal"] / core_seconds,
        others=max(0.0, busy - total.total) / core_seconds,
        command=" ".join(command),
        instructions=None if counter.count is None else counter.count / traffic.completed,
    )


def check_flow(sample: Sample) -> None:
    """Raise StalledError where hardly a query was under way: a connection that was not accepted holds up dnsperf."""
    if sample.load_busy < MIN_BUSY and sample.server_busy < MIN_BUSY:
        traffic = sample.traffic
        raise StalledError(
            f"{traffic.sent} queries in {traffic.seconds:.1f} s, and neither load nor server was busy: {sample.command}"
        )


def process_costs(before: dict[int, ProcessStat], after: dict[int, ProcessStat]) -> dict[int, CpuTime]:
    """What each process spent; one that is new counts from its start, one that is gone makes a PeerError."""
    gone = before.keys() - after.keys()
    if gone:
        raise PeerError(f"process {min(gone)} of the server ended during a run")
    nothing = CpuTime(0.0, 0.0)
    return {pid: stat.cpu.since(before[pid].cpu if pid in before else nothing) for pid, stat in after.items()}


def _check_traffic(load: Load, peer: Target, traffic: Traffic) -> None:
    if not traffic.completed:
        raise PeerError(f"{peer.name}: {load.name}: none of {traffic.sent} queries was answered")
    if traffic.lost > MAX_UNANSWERED * traffic.sent:
        raise PeerError(f"{peer.name}: {load.name}: {traffic.lost} of {traffic.sent} queries were not answered")
    wrong = {rcode: count for rcode, count in traffic.rcodes.items() if load.rcodes and rcode not in load.rcodes}
    if wrong:
        met = ", ".join(f"{count} x {rcode}" for rcode, count in wrong.items())
        raise PeerError(f"{peer.name}: {load.name}: {met}, expected {' or '.join(sorted(load.rcodes))}")


def run_on_core(command: list[str], core: int, limit_seconds: float) -> tuple[str, float]:
    """Run the sender pinned to `core`; returns what it printed and its CPU seconds."""
    before = os.times()
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(command)}: still running after {limit_seconds:.0f} s") from error
    after = os.times()
    if result.returncode:
        raise BenchError(f"{' '.join(command)}: status {result.returncode}: {(result.stderr or result.stdout).strip()}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return result.stdout, cpu
