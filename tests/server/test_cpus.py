"""How many workers a machine, a mask and a quota allow."""

from __future__ import annotations

import os

import pytest

from kdns.server.cpus import usable_cpus


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(("quota", "expected"), [
    ("max 100000\n", 8), ("200000 100000\n", 2), ("250000 100000\n", 3), ("50000 100000\n", 1),
    ("1000 100000\n", 1), ("9900000 100000\n", 8), ("", 8), ("200000\n", 8), ("x y\n", 8), ("1 0\n", 8),
])  # fmt: skip
def test_a_quota_of_cgroup_v2_counts(cgroup, quota, expected):
    (cgroup / "cpu.max").write_text(quota)
    assert usable_cpus(cgroup) == expected


@pytest.mark.parametrize(("quota", "period", "expected"), [
    ("-1", "100000", 8), ("0", "100000", 8), ("300000", "100000", 3), ("10000", "100000", 1), ("100000", "0", 8),
    ("many", "100000", 8),
])  # fmt: skip
def test_a_quota_of_cgroup_v1_counts(cgroup, quota, period, expected):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text(period)
    assert usable_cpus(cgroup) == expected


def test_without_cgroups_the_mask_counts(cgroup, monkeypatch):
    assert usable_cpus(cgroup) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert usable_cpus(cgroup) == 1


def test_this_machine_has_at_least_one():
    assert usable_cpus() >= 1
