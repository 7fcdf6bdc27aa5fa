import json
import os
import shutil

import pytest

from bench.__main__ import main
from bench.commands.run import fit_seconds
from bench.errors import BenchError, PeerError
from bench.load import check_dnsperf
from bench.peers import Knot

SMALL = ["--services", "100", "--endpoints", "500", "--headless", "10", "--largest", "50"]


def test_a_missing_peer_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(Knot, "program", "knotd-that-is-not-there")

    with pytest.raises(PeerError, match="knotd-that-is-not-there is not installed; apt-get install knot"):
        Knot.version()


def test_an_unknown_peer_is_named_with_those_there_are(capsys):
    assert main(["run", "hits", "--peers", "named"]) == 1
    assert capsys.readouterr().err.startswith("bench: unknown peer 'named': expected some of knot, nsd, unbound, bind,")


def test_impossible_sizes_end_with_one_line(capsys, tmp_path):
    assert main(["cluster", str(tmp_path), "--services", "5", "--endpoints", "1"]) == 1
    assert capsys.readouterr().err.startswith("bench: --endpoints 1: expected 5")


def test_help_names_every_load(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "headless-5000" in capsys.readouterr().out


def test_a_cluster_can_be_written_and_looked_at(capsys, tmp_path):
    assert main(["cluster", str(tmp_path), "--questions", "50", *SMALL]) == 0

    assert json.loads(capsys.readouterr().out)["objects"] >= 202
    assert (tmp_path / "zones" / "cluster.local.zone").exists()
    assert (tmp_path / "hits.questions").read_text().count("\n") == 50


def test_a_short_run_measures_knot_or_says_what_to_install(capsys, tmp_path):
    """One second of one load; on a machine without the programs or a second core, the line that says so."""
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = (cores * 2)[:2]
    arguments = ["--peers", "knot", "--rounds", "1", "--seconds", "1", *SMALL, "--results", str(tmp_path)]
    status = main(["run", "hits", *arguments, "--server-core", str(server_core), "--load-core", str(load_core)])
    output = capsys.readouterr()

    if shutil.which("dnsperf") is None:
        assert (status, output.err) == (1, "bench: dnsperf is not installed; apt-get install dnsperf\n")
    elif len(cores) < 2:
        assert (status, "a core each" in output.err) == (1, True)
    elif not Knot.is_installed():
        assert (status, "apt-get install knot" in output.err) == (1, True)
    else:
        (path,) = tmp_path.glob("*.json")
        row = json.loads(path.read_text())["loads"]["hits"]["knot"]
        assert status == 0
        assert row["cost_us"] > 0
        assert row["samples"][0]["traffic"]["rcodes"].keys() == {"NOERROR"}
        assert output.out.splitlines()[2].split()[:2] == ["hits", "knot"]


def test_a_missing_load_generator_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(BenchError, match="apt-get install dnsperf"):
        check_dnsperf()


def test_a_run_is_fitted_into_minutes_as_far_as_a_second_a_sample_goes():
    assert fit_seconds(minutes=10, pairs=49, rounds=5) == 1
    assert fit_seconds(minutes=20, pairs=49, rounds=5) == 3
    assert fit_seconds(minutes=60, pairs=2, rounds=5) == 10


def test_a_recording_is_a_load_of_its_own(capsys, tmp_path):
    assert main(["run", "hits", "--replay", str(tmp_path / "any")]) == 1
    assert "name no other loads" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_ends_with_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")

    assert main(["cluster", str(tmp_path / "file" / "below"), *SMALL]) == 1
    assert capsys.readouterr().err.startswith(f"bench: {tmp_path}/file/below")
