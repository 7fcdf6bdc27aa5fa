"""The directive cases against whole servers, several at once where each has namespaces of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.directives.cases import case_paths, load, name_of
from tests.directives.grounds import may_have_own_grounds
from tests.directives.judge import judge_start, judge_steps

AT_ONCE = 4  # servers; most of the time of a case it waits for time to pass
CASES = {name_of(path): load(path, name_of(path)) for path in case_paths()}
STARTS = {f"{case.name}/{start.id}": start for case in CASES.values() for start in case.starts}
WITH_STEPS = {name: case for name, case in CASES.items() if case.steps}
FEWEST_CHECKS = 890

Play = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Plays every case that was asked for, from the first time on one is; what differed in one of them."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(AT_ONCE if may_have_own_grounds() else 1) as pool:
        playing = {
            name: pool.submit(_play, name, tmp_path_factory.mktemp("case")) for name in sorted(chosen, key=_pauses)
        }
        yield lambda name: playing[name].result()
        for future in playing.values():
            future.cancel()


def _play(name: str, directory: Path) -> list[str]:
    if name in STARTS:
        return judge_start(STARTS[name], directory)
    case = WITH_STEPS[name]
    if case.obstacle and not may_have_own_grounds():
        pytest.skip(f"left out, for no namespace can be made here, and {case.obstacle}")
    return list(judge_steps(case, directory))


def _pauses(name: str) -> float:
    """Sorts what takes longest to the front."""
    return -WITH_STEPS[name].pauses_seconds if name in WITH_STEPS else 0.0


@pytest.mark.parametrize("name", WITH_STEPS)
def test_steps(name: str, play: Play) -> None:
    differences = play(name)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", STARTS)
def test_start(name: str, play: Play) -> None:
    differences = play(name)
    assert not differences, "\n".join(differences)


def test_nothing_of_the_data_is_lost() -> None:
    assert sum(case.checks for case in CASES.values()) >= FEWEST_CHECKS
    assert all(case.checks for case in CASES.values())


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
