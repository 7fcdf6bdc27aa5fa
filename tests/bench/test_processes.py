import os
import sys
import time

import pytest

from bench.errors import BenchError, PeerError
from bench.load import process_costs
from bench.processes import (
    TICKS_PER_SECOND,
    CpuTime,
    ProcessStat,
    check_cores,
    parse_memory,
    parse_stat,
    pin_tree,
    process_tree,
    spawn,
    stop,
)


def test_stat_of_a_command_with_blanks_and_brackets():
    line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 250 125 9 9 20 0 1 0 100 1000 10"

    assert parse_stat(line) == ProcessStat(
        42, 7, CpuTime(250 / TICKS_PER_SECOND, 125 / TICKS_PER_SECOND), ended=18 / TICKS_PER_SECOND
    )


def test_memory_of_a_process():
    text = "5600-7ffc ---p 00000000 00:00 0    [rollup]\nRss:     5000 kB\nPss:   1200 kB\nPrivate_Dirty:  800 kB\n"

    assert parse_memory(text) == {"Rss": 5000, "Pss": 1200, "Private_Dirty": 800}


def test_the_tree_of_a_process_has_its_children_and_ends_with_it(tmp_path):
    child = "import time; time.sleep(60)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    process = spawn([sys.executable, "-c", script], (), tmp_path / "log")
    try:
        assert wait_until(lambda: len(process_tree(process.pid)) == 2, 10)
        members = process_tree(process.pid)
    finally:
        stop(process)

    assert process_tree(process.pid) == {}
    assert wait_until(lambda: not any(is_alive(pid) for pid in members), 10)


def wait_until(condition, timeout_seconds):
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_spawned_process_runs_on_its_core(tmp_path):
    core = max(os.sched_getaffinity(0))
    process = spawn([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], {core}, tmp_path / "log")
    process.wait(30)

    assert (tmp_path / "log").read_text().strip() == str({core})


def test_threads_that_chose_other_cores_are_bound_as_well(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    script = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); time.sleep(60)"
    )
    process = spawn([sys.executable, "-c", script], (), tmp_path / "log")
    try:
        assert wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) == 2, 10)
        pin_tree(process.pid, {cores[-1]})

        assert all(os.sched_getaffinity(int(task)) == {cores[-1]} for task in os.listdir(f"/proc/{process.pid}/task"))
    finally:
        stop(process)


def test_a_core_that_is_not_there_is_named():
    with pytest.raises(BenchError, match="core 4095 may not be used here"):
        check_cores(4095)


def test_server_and_load_may_not_share_a_core():
    core = min(os.sched_getaffinity(0))
    with pytest.raises(BenchError, match="a core each"):
        check_cores(core, core)


def test_costs_are_differences_and_a_new_process_counts_from_its_start():
    before = {1: ProcessStat(1, 0, CpuTime(1.0, 2.0))}
    after = {1: ProcessStat(1, 0, CpuTime(1.5, 4.0)), 2: ProcessStat(2, 1, CpuTime(0.25, 0.0))}

    assert process_costs(before, after) == {1: CpuTime(0.5, 2.0), 2: CpuTime(0.25, 0.0)}


def test_a_process_that_ended_during_a_run_spoils_it():
    with pytest.raises(PeerError, match="process 1 of the server ended"):
        process_costs({1: ProcessStat(1, 0, CpuTime(1.0, 2.0))}, {})
