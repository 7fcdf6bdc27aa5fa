import pytest

from bench.steady import percentile, read_intervals

PRINTED = b"""\
DNS Performance Testing Tool
> NOERROR a.test. A 0.000300
1795278561.000000: 100.0
> NOERROR a.test. A 0.000100
> NXDOMAIN b\\032c.test. TYPE257 0.000200
1795278561.250000: 100.0
1795278561.500000: 0.0
1795278561.750000: 0.0
> T d.test. A
1795278562.000000: 0.0
> T e.test. A
> NOERROR a.test. A 0.000400
Statistics:
""".splitlines(keepends=True)


def read():
    return read_intervals(PRINTED, 1795278562.1)


def test_answers_stand_in_the_interval_they_came_in():
    intervals, rest = read()

    assert [list(interval.seconds) for interval in intervals] == [[0.0003], [0.0001, 0.0002], [], [], [], [0.0004]]
    assert intervals[1].rcodes == {"NOERROR": 1, "NXDOMAIN": 1}
    assert [interval.end for interval in intervals][-2:] == [1795278562.0, 1795278562.1]
    assert rest == "DNS Performance Testing Tool\nStatistics:\n"


def test_losses_stand_in_the_interval_they_were_sent_in():
    """A query counts as lost a second, or four intervals, after it was sent."""
    assert [interval.lost for interval in read()[0]] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("wanted", "expected"), [(50.0, 5.0), (90.0, 9.0), (99.0, 10.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(wanted, expected):
    assert percentile([float(value) for value in range(1, 11)], wanted) == expected
