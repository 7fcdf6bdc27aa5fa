import json
from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.readme import BEGIN, END, README, merge, write_readme
from bench.results import Results
from tests.bench.test_load import SAMPLE
from tests.bench.test_outcome import outcome

LEFT_OUT = {
    "nsd": "not installed\nsee above",
    "bind in tcp": "/home/me/bin/named: ended",
    "knot in latencies of hits at 50 %": "the load's core was 113% busy",
    "knot in latencies of mix at 90 %": "the load's limit",
}
PLOTS = ("churn", "cores", "costs", "latencies", "sizes")


@pytest.fixture(autouse=True)
def _plots(monkeypatch):
    """Plots take seconds, and have tests of their own."""
    for name in PLOTS:
        monkeypatch.setattr(f"bench.readme.draw_{name}", lambda found, path: path.write_text("<svg/>"))


@pytest.fixture
def kept(tmp_path):
    results = Results({"rounds": 1, "seconds": 4}, {"knot": "knotd 3.2"}, excluded=dict(LEFT_OUT))
    results.add("hits", "knot", SAMPLE)
    results.add("hits", "kdns", replace(SAMPLE, cost_us=2.0, user_us=0.5))
    results.starts = {"kdns": {"wall_seconds": 1.0, "cpu_seconds": 0.5, "pss_kib": 2048}}
    results.scenarios = {
        "churn": {"kdns": outcome().as_json()},
        "sizes": {
            "kdns": [
                {"services": size, "endpoints": 15 * size, "wall_seconds": 1.0, "cpu_seconds": 1.0, "pss_kib": size}
                for size in (100, 1_000)
            ]
        },
    }
    results.by_cores = {"hits": {"kdns": {"1": {"cost_us": 2.0}, "2": {"cost_us": 2.1}}}}
    return results.write(tmp_path / "results")


def test_figures_stand_between_the_markers_and_the_rest_stays(kept, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# before\n{BEGIN}\nold figures\n{END}\nafter\n")

    written = write_readme([kept], page)

    text = page.read_text()
    assert text.startswith(f"# before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old figures" not in text
    assert "| `hits` | 4.00 (1.00) | 2.00 (0.50) | 0.50 |" in text
    assert "- nsd: not installed\n" in text
    assert "- bind in tcp: named: ended\n" in text, "nothing of this machine"
    assert "- latencies of knot, where the load would have measured its own waits: hits 50 %, mix 90 %" in text
    assert {path.name for path in written} == {"README.md", "costs.svg", "churn.svg", "sizes.svg", "cores.svg"}


def test_the_page_itself_has_the_markers():
    text = README.read_text()

    assert text.count(BEGIN) == text.count(END) == 1


def test_a_page_without_markers_is_named(kept, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("nothing\n")

    with pytest.raises(BenchError, match="expected the lines"):
        write_readme([kept], page)


def test_later_results_replace_parts_of_earlier_ones(kept):
    first = json.loads(kept.read_text())
    second = {**first, "loads": {"ndots": {}}, "latencies": {}, "starts": {"knot": {}}}

    merged = merge([first, second])

    assert merged["loads"].keys() == {"hits", "ndots"}
    assert merged["starts"].keys() == {"kdns", "knot"}
    assert merged["scenarios"] == first["scenarios"]
