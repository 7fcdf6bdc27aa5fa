"""The `process_` metrics, of this process and of made-up ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdns.server.process_metrics import ProcessMetrics

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def values_of(metrics: ProcessMetrics) -> dict[str, float]:
    return {sample.name: sample.value for metric in metrics.collect() for sample in metric.samples}


def make_process(proc: Path, name: str, *, pss_kib: int | None = 100, files: int = 3) -> None:
    folder = proc / name
    (folder / "fd").mkdir(parents=True)
    for number in range(files):
        (folder / "fd" / str(number)).touch()
    fields = ["S", *["0"] * 10, str(2 * TICKS), str(1 * TICKS), *["0"] * 6, str(50 * TICKS), "0"]
    (folder / "stat").write_text(f"1 (odd) name) {' '.join(fields)}")
    (folder / "statm").write_text("1000 70 60 1 0 30 0")
    if pss_kib is not None:
        (folder / "smaps_rollup").write_text(f"0-1 ---p [rollup]\nRss: 999 kB\nPss: {pss_kib} kB\nPss_Anon: 5 kB\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name in ("self", str(os.getpid()), "77"):
        make_process(tmp_path, name)
    make_process(tmp_path, "78", pss_kib=None)
    (tmp_path / "stat").write_text("cpu 0\nbtime 1000\n")
    return tmp_path


def test_processes_are_summed_and_shared_pages_counted_once(proc: Path) -> None:
    found = values_of(ProcessMetrics(lambda: [77, 78, 9999], proc))
    assert found["process_open_fds"] == 9
    assert found["process_resident_memory_bytes"] == 2 * 100 * 1024 + 70 * PAGE
    assert found["process_virtual_memory_bytes"] == 3 * 1000 * PAGE
    assert found["process_start_time_seconds"] == 1050
    assert found["process_cpu_seconds_total"] >= 9
    assert found["kdns_processes"] == 4


def test_memory_is_looked_at_once_in_a_while(proc: Path) -> None:
    now = 0.0
    metrics = ProcessMetrics(lambda: [77], proc, lambda: now)
    first = values_of(metrics)["process_resident_memory_bytes"]
    (proc / "77" / "smaps_rollup").write_text("Pss: 500 kB\n")
    assert values_of(metrics)["process_resident_memory_bytes"] == first
    now = 10.0
    assert values_of(metrics)["process_resident_memory_bytes"] == first + 400 * 1024


def test_processor_time_does_not_go_back_when_a_child_ends():
    metrics = ProcessMetrics(lambda: children)
    child = os.fork()
    if child == 0:
        while os.times().user < 0.05:
            pass
        os._exit(0)
    children = [child]
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    before = values_of(metrics)["process_cpu_seconds_total"]
    os.waitpid(child, 0)
    children = []
    after = values_of(metrics)["process_cpu_seconds_total"]
    assert after >= before - 2 / TICKS


def test_this_process_is_seen():
    found = values_of(ProcessMetrics(list))
    assert found["process_open_fds"] >= 3
    assert found["process_max_fds"] >= found["process_open_fds"]
    assert 1 << 20 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
