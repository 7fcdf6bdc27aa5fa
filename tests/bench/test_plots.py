import pytest

from bench.plots import draw_churn, draw_cores, draw_sizes
from tests.bench.test_outcome import outcome

pytest.importorskip("matplotlib")

SIZES = [
    {"services": size, "endpoints": 15 * size, "wall_seconds": 1.0, "cpu_seconds": 1.0, "pss_kib": size}
    for size in (100, 1_000)
]


@pytest.mark.parametrize(
    ("draw", "found", "texts"),
    [
        (draw_churn, {"kdns": outcome().as_json()}, ["kdns", "answers per second"]),
        (draw_cores, {"hits": {"kdns": {"1": {"cost_us": 2.0}, "2": {"cost_us": 2.1}}}}, ["hits", "cores"]),
        (draw_sizes, {"kdns": SIZES, "coredns": []}, ["PSS in MiB", "Services"]),
    ],
)
def test_a_plot_is_small_and_its_text_is_text(draw, found, texts, tmp_path):
    path = tmp_path / "plot.svg"

    draw(found, path)

    drawn = path.read_text()
    assert all(text in drawn for text in texts)
    assert len(drawn) < 100_000
