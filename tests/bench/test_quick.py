from dataclasses import replace

import pytest

from bench.__main__ import main
from bench.errors import BenchError
from bench.quick import KEPT, ratios, read_kept, warnings, write_kept
from bench.results import Results
from tests.bench.test_load import SAMPLE


def found(cost):
    results = Results({})
    results.add("hits", "knot", SAMPLE)
    results.add("hits", "kdns", replace(SAMPLE, cost_us=cost))
    results.add("tcp", "kdns", SAMPLE)
    return results


def test_a_ratio_needs_both():
    assert ratios(found(2.0)) == {"hits": 0.5}


@pytest.mark.parametrize(("cost", "count"), [(2.0, 0), (2.5, 0), (2.7, 1)])
def test_what_is_dearer_than_it_was_is_told_of(cost, count):
    """Kept is a half, so up to 0.65 are as dear as ever."""
    told = warnings(ratios(found(cost)), {"from": "yesterday", "ratios": {"hits": 0.5, "nodata": 0.1}})

    assert len(told) == count
    assert all(line.startswith("warning: hits: kdns costs 0.68 x Knot DNS, kept is 0.50 (yesterday)") for line in told)


def test_what_is_kept_is_read_again(tmp_path):
    write_kept(found(2.0), tmp_path / "kept.json")

    assert read_kept(tmp_path / "kept.json")["ratios"] == {"hits": 0.5}


def test_the_kept_file_of_the_project_is_sound():
    assert read_kept(KEPT)["ratios"].keys() >= {"hits"}


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_broken_kept_file_is_named(tmp_path, text):
    path = tmp_path / "kept.json"
    path.write_text(text)

    with pytest.raises(BenchError, match="quick --keep"):
        read_kept(path)


def test_a_machine_without_the_programs_is_no_failure(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")

    assert main(["quick"]) == 0
    assert "apt-get install dnsperf" in capsys.readouterr().err
