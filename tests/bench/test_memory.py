import os

import pytest

from bench.errors import BenchError
from bench.memory import measure_example, read_tree_memory, render
from bench.records import Question


def test_memory_of_a_process_with_its_memfds():
    before = read_tree_memory({os.getpid(): "kdns: informer"})
    descriptor = os.memfd_create("table")
    try:
        os.write(descriptor, bytes(1 << 20))
        after = read_tree_memory({os.getpid(): "kdns: informer"})
    finally:
        os.close(descriptor)

    assert after.memfd - before.memfd == 1024
    (fields,) = after.processes.values()
    assert 0 < fields["private"] <= fields["pss"] <= fields["rss"]
    assert after.pss == fields["pss"]


def test_a_process_that_is_gone_is_named():
    with pytest.raises(BenchError, match="cannot read the memory of process 4194305"):
        read_tree_memory({4194305: "kdns: worker 0"})


def test_a_missing_example_is_named(tmp_path):
    with pytest.raises(BenchError, match="no such folder"):
        measure_example(tmp_path / "none", Question("kubernetes.default.svc.cluster.local.", "A"), 2, tmp_path)


def test_the_table_is_in_mebibytes():
    processes = {"kdns: worker 0 (7)": {"rss": 4096, "pss": 2048, "private": 1024}}
    text = render(
        [{"what": "example", "workers": 2, "pss": 2048, "private": 1024, "memfd": 512, "processes": processes}]
    )

    assert text.splitlines()[1].split() == ["example,", "2", "workers", "2.0", "1.0", "0.5"]
