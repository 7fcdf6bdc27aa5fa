from array import array
from collections import Counter

from bench.scenarios.outcome import Watched, delays_text, summarize
from bench.steady import Interval, Steady


def outcome():
    intervals = [
        Interval(100.0 + 0.25 * number, array("d", [0.001 * number] * 10), Counter(NOERROR=10), lost=number % 2)
        for number in range(13)
    ]
    intervals[5].rcodes["SERVFAIL"] += 3
    steady = Steady(sent=136, lost=6, seconds=3.0, load_busy=0.5, intervals=intervals)
    watched = Watched(delays_ms=[1.0, 2.0, 30.0], unseen=1, asked=9, wrong=1, examples=["web. A: fewer"])
    return summarize(steady, [100.0, 101.0, 102.0, 103.0], [1.0, 1.1, 1.6, 1.7], 90.0, watched, {"changes/s": 100.0})


def test_phases_have_their_own_answers_losses_and_cpu():
    phases = outcome().phases

    assert [row["answered"] for row in phases.values()] == [40, 40, 40]
    assert [row["lost"] for row in phases.values()] == [2, 2, 2]
    assert [round(row["cpu_share"], 3) for row in phases.values()] == [0.1, 0.5, 0.1]
    assert phases["event"]["max_us"] == 7_000


def test_time_counts_from_the_event():
    found = outcome()

    assert found.timeline[0][:2] == (-0.75, 40)
    assert found.marks == [0.0, 1.0]


def test_what_was_lost_and_wrong_is_printed():
    printed = "\n".join(outcome().render())

    assert "6 lost, 3 answered with another rcode" in printed
    assert "9 answers judged: 1 wrong, 0 missing (web. A: fewer)" in printed
    assert "p50 2.0, p90 30.0, p99 30.0, max 30.0 ms of 3; 1 not within the limit" in printed


def test_delays_that_were_never_seen():
    assert delays_text([]) == "never seen"
