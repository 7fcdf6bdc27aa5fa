import json
from dataclasses import replace

import pytest

from bench.errors import BenchError, StalledError
from bench.load import Options, Sample, check_flow, sender_command
from bench.loads import LOADS
from bench.results import Results, summary
from bench.traffic import Traffic, parse_dnsperf, parse_flood

DNSPERF = """\
DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 127.0.0.1 -p 5300 -d hits -l 4
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         1000200
  Queries completed:    1000199 (100.00%)
  Queries lost:         1 (0.00%)

  Response codes:       NOERROR 900000 (89.98%), NXDOMAIN 100199 (10.02%)
  Average packet size:  request 45, response 80
  Run time (s):         4.000100
  Queries per second:   250043.500000

  Average Latency (s):  0.000353 (min 0.000021, max 0.004113)
  Latency StdDev (s):   0.000101
"""

TRAFFIC = Traffic(1_000, 1_000, 0, 2.0, {"NOERROR": 1_000}, 45.0, 80.0, 353.0)
SAMPLE = Sample(
    TRAFFIC, 4.0, 1.0, 3.0, {"kdns: worker 0": 3.9, "kdns: informer": 0.1}, 0.9, 0.8, 0.0, 0.0, 0.0, "dnsperf"
)


def test_what_dnsperf_prints():
    assert parse_dnsperf(DNSPERF) == Traffic(
        sent=1_000_200,
        completed=1_000_199,
        lost=1,
        seconds=4.0001,
        rcodes={"NOERROR": 900_000, "NXDOMAIN": 100_199},
        request_bytes=45.0,
        reply_bytes=80.0,
        latency_us=pytest.approx(353.0),
    )


def test_what_dnsperf_prints_when_nothing_answers():
    output = DNSPERF.replace("NOERROR 900000 (89.98%), NXDOMAIN 100199 (10.02%)", "")

    assert parse_dnsperf(output).rcodes == {}


def test_dnsperf_that_failed_is_quoted():
    with pytest.raises(BenchError, match="unable to open file"):
        parse_dnsperf("DNS Performance Testing Tool\nError: unable to open file\n")


def test_a_flood_that_failed_is_quoted():
    with pytest.raises(BenchError, match="ConnectionRefusedError"):
        parse_flood("Traceback ...\nConnectionRefusedError: refused\n")


def test_commands_of_the_senders(tmp_path):
    def command(name):
        return sender_command(LOADS[name], 5300, tmp_path / "q", 4, Options(clients=2, outstanding=50))

    assert command("hits")[:3] == ["dnsperf", "-s", "127.0.0.1"]
    assert command("hits")[-7:] == ["-c", "2", "-T", "1", "-q", "50", "-W"]
    assert command("edns")[-1] == "-e"
    assert command("tcp")[-2:] == ["-m", "tcp"]
    assert command("forwarded")[-2:] == ["-n", "1"], "nothing is asked twice"
    assert command("tcp")[command("tcp").index("-c") + 1] == "10"
    assert "--questions" in command("hits-raw")
    assert "--questions" not in command("formerr")


def test_a_summary_is_the_median_and_its_spread():
    row = summary([replace(SAMPLE, cost_us=cost) for cost in (4.0, 3.0, 5.0)])

    assert row["cost_us"] == 4.0
    assert row["spread"] == pytest.approx(0.5)
    assert row["queries_per_second"] == 500.0
    assert row["notes"] == ["noisy: repeat"]


def test_a_quiet_summary_has_no_notes():
    assert summary([SAMPLE, SAMPLE])["notes"] == []


def test_a_core_that_others_used_is_noted():
    assert summary([SAMPLE, replace(SAMPLE, others=0.2)])["notes"] == ["core was shared: repeat"]


def test_loss_and_a_busy_load_are_noted():
    traffic = replace(TRAFFIC, completed=990, lost=10)

    assert summary([replace(SAMPLE, traffic=traffic, load_busy=0.99)])["notes"] == ["lost queries", "load-bound"]


def test_the_table_shows_ratios_and_the_processes_of_kdns():
    results = Results({})
    results.add("hits", "kdns", replace(SAMPLE, cost_us=3.6))
    results.add("hits", "knot", replace(SAMPLE, processes_us={"knotd": 4.0}))
    results.excluded["nsd"] = "nsd: nsd is not installed; apt-get install nsd"

    lines = results.table().splitlines()[2:]
    assert lines[0].split()[:3] == ["hits", "knot", "4.00"]
    assert lines[1].split()[:3] == ["hits", "kdns", "3.60"]
    assert lines[1].split()[-1] == "0.90"
    assert lines[2].split("of it ")[1] == "kdns: informer 0.10, kdns: worker 0 3.90"
    assert "apt-get install nsd" in lines[3]


def test_results_keep_every_sample(tmp_path):
    results = Results({"rounds": 2}, {"knot": "3.2.6"})
    results.add("hits", "knot", SAMPLE)
    results.add("hits", "knot", SAMPLE)

    document = json.loads(results.write(tmp_path).read_text())
    assert document["parameters"] == {"rounds": 2}
    assert document["machine"]["kernel"]
    assert len(document["loads"]["hits"]["knot"]["samples"]) == 2
    assert document["loads"]["hits"]["knot"]["cost_us"] == 4.0


def test_a_sender_that_stalled_is_told_from_a_slow_server():
    check_flow(replace(SAMPLE, load_busy=0.9, server_busy=0.0))
    check_flow(replace(SAMPLE, load_busy=0.0, server_busy=0.9))
    with pytest.raises(StalledError, match="neither load nor server was busy"):
        check_flow(replace(SAMPLE, load_busy=0.01, server_busy=0.01))
