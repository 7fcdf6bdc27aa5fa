"""Questions at a steady rate, whatever comes back, with every answer's own time: dnsperf with `-Q` and `-v`.

dnsperf prints a line for each answer (`> RCODE NAME TYPE SECONDS`), one for each query that was given up (`> T ...`),
and several times a second the time of day. So each answer is known to fall between two such times.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench.errors import BenchError
from bench.load import Options
from bench.loads import Load, Sender
from bench.target import Target
from bench.traffic import dnsperf_number

OUTSTANDING = 4_096  # queries under way at most: more than a server at 90 % ever lets wait
BUFFER_KILOBYTES = "2048"  # of the socket of the sender, so that it loses nothing while it is busy sending
GIVE_UP_SECONDS = 1  # after which a query counts as lost
INTERVAL_SECONDS = 0.25  # between two lines with the time
RUN_LIMIT_SECONDS = 30.0  # beyond the asked time

_ANSWER = re.compile(rb"^> (\S+) \S+ \S+ ([0-9.]+)$")
_LOST = re.compile(rb"^> T ")
_TIME = re.compile(rb"^([0-9]{9,}\.[0-9]+): [0-9.]+$")


@dataclass(slots=True)
class Interval:
    """What came back in a short time that ended at `end`, by the clock of the day."""

    end: float
    seconds: array[float] = field(default_factory=lambda: array("d"), repr=False)  # each answer took
    rcodes: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # queries sent in it that were never answered


@dataclass(frozen=True, slots=True)
class Steady:
    """A whole run at a steady rate."""

    sent: int
    lost: int
    seconds: float
    load_busy: float  # share of its core that dnsperf used
    intervals: list[Interval]

    @property
    def rate(self) -> float:
        """Queries sent per second."""
        return self.sent / self.seconds

    @property
    def rcodes(self) -> Counter[str]:
        """All answers by rcode."""
        return sum((interval.rcodes for interval in self.intervals), Counter())

    def times(self, after: float = 0.0, before: float = float("inf")) -> list[float]:
        """The seconds of each answer that came between two times of day, in order of size."""
        return sorted(
            value for interval in self.intervals if after <= interval.end < before for value in interval.seconds
        )


class SteadyLoad:
    """A run of dnsperf under way."""

    def __init__(
        self,
        load: Load,
        target: Target,
        questions: Path,
        rate: float,
        seconds: float,
        options: Options,
        clients: int = 0,
    ) -> None:
        if load.sender not in (Sender.UDP, Sender.EDNS):
            raise BenchError(f"{load.name}: latencies are measured over UDP")
        self._limit = seconds + RUN_LIMIT_SECONDS
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when dnsperf has ended
        command = [
            *("dnsperf", "-v", "-s", target.address, "-p", str(target.port), "-d", str(questions)),
            *("-l", f"{seconds:g}", "-Q", str(max(1, round(rate))), "-q", str(OUTSTANDING), "-b", BUFFER_KILOBYTES),
            *("-c", str(clients or options.clients), "-T", "1", "-t", str(GIVE_UP_SECONDS)),
            *("-S", f"{INTERVAL_SECONDS:g}"),
            *(["-e"] if load.sender is Sender.EDNS else []),
        ]
        self.command = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
        )

    def end(self) -> None:
        """Have it end now, with what it found so far."""
        self._limit = RUN_LIMIT_SECONDS
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> Steady:
        """Wait until it ends by itself, and read what it printed."""
        guard = threading.Timer(self._limit, self._process.kill)
        guard.start()
        try:
            # wait4 tells what this child alone used; others may end meanwhile.
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            guard.cancel()
        if self._process.returncode < 0:
            raise BenchError(f"{self.command}: still running after {self._limit:.0f} s")
        with self._output as output:
            output.seek(0)
            intervals, rest = read_intervals(output, time.time())
        sent, seconds = int(dnsperf_number(rest, "Queries sent")), dnsperf_number(rest, r"Run time \(s\)")
        busy = (usage.ru_utime + usage.ru_stime) / seconds
        return Steady(sent, int(dnsperf_number(rest, "Queries lost")), seconds, busy, intervals)

    def stop(self) -> None:
        """End it at once; nothing is read."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._output.close()


def read_intervals(output: IO[bytes] | Iterable[bytes], end: float) -> tuple[list[Interval], str]:
    """The intervals in what dnsperf printed, the last of which ends at `end`; and its other lines."""
    intervals = [Interval(end)]
    rest = []
    for line in output:
        text = line.rstrip()
        if match := _ANSWER.match(text):
            intervals[-1].seconds.append(float(match[2]))
            intervals[-1].rcodes[match[1].decode()] += 1
        elif _LOST.match(text):
            intervals[-1].lost += 1
        elif match := _TIME.match(text):
            intervals[-1].end = float(match[1])
            intervals.append(Interval(end))
        else:
            rest.append(line.decode(errors="replace"))
    _date_losses(intervals)
    return intervals, "".join(rest)


def _date_losses(intervals: Sequence[Interval]) -> None:
    """Put each lost query where it was sent, not where it was given up."""
    steps = round(GIVE_UP_SECONDS / INTERVAL_SECONDS)
    lost = [interval.lost for interval in intervals]
    for place, interval in enumerate(intervals):
        interval.lost = lost[place + steps] if place + steps < len(lost) else 0
    if intervals:  # queries that were given up in the first second were sent in its first interval
        intervals[0].lost += sum(lost[:steps])


def percentile(ordered: Sequence[float], wanted: float) -> float:
    """The smallest of the ordered values that at least `wanted` percent of them do not exceed."""
    place = -(-len(ordered) * wanted // 100)
    return ordered[max(0, min(len(ordered) - 1, int(place) - 1))]
