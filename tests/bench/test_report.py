import json

import pytest

from bench.errors import BenchError
from bench.report import compare, read_results
from bench.steady import percentile


def document(**costs):
    """Results of one load: rounds of costs by peer."""
    return {
        "loads": {
            "hits": {
                peer: {"cost_us": rounds[0], "samples": [{"cost_us": cost} for cost in rounds]}
                for peer, rounds in costs.items()
            }
        }
    }


def verdicts(before, after):
    return {line.split(" | ")[1]: line.rstrip(" |").split(" | ")[-1] for line in list(compare(before, after))[2:-1]}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([3.0, 3.1, 3.2], [3.3, 3.4, 3.5], "dearer"),
        ([3.3, 3.4, 3.5], [3.0, 3.1, 3.2], "cheaper"),
        ([3.0, 3.1, 3.2], [3.2, 3.3, 3.4], "no difference beyond the spread"),
        ([3.0, 3.1], [4.0, 4.1], "too few rounds to tell"),
    ],
)
def test_a_verdict_knows_the_spread(before, after, verdict):
    assert verdicts(document(kdns=before), document(kdns=after)) == {"kdns": verdict}


def test_costs_are_compared_as_ratios_to_knot_where_both_runs_measured_it():
    before = document(kdns=[3.0, 3.0, 3.0], knot=[4.0, 4.0, 4.0])
    twice_as_slow = document(kdns=[6.0, 6.0, 6.0], knot=[8.0, 8.0, 8.0])

    assert verdicts(before, twice_as_slow)["kdns"] == "no difference beyond the spread"


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no JSON"), ('{"loads": {}}', "no results of this bench"), (None, "No such file")],
)
def test_what_is_no_result_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BenchError, match=message):
        read_results(path)


def test_percentiles_are_values_that_were_seen():
    times = [float(number) for number in range(1, 1001)]

    assert [percentile(times, wanted) for wanted in (50.0, 99.0, 99.9, 100.0)] == [500.0, 990.0, 999.0, 1000.0]
    assert percentile([7.0], 99.9) == 7.0


def test_results_of_a_run_can_be_read_back(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"loads": {}, "machine": {}}))

    assert read_results(path) == {"loads": {}, "machine": {}}
