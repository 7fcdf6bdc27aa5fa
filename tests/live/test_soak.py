"""The soak: half a minute here, as long as SOAK_MINUTES says with `make soak`."""

from __future__ import annotations

import os

import pytest

from tests.live.live_site import Site
from tests.live.soak import RESTART_SECONDS, Soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
MAX_UNDECIDED = 0.05  # of the questions: too many states were possible to try them all
LEAST_QUESTIONS_PER_SECOND = 20  # a machine that makes fewer proves nothing


def tell(line: str) -> None:
    """Show progress; pytest hides it unless run with -s."""
    print(f"soak: {line}", flush=True)  # noqa: T201


@pytest.mark.timeout(60 * MINUTES + 120)
def test_restarts_and_faults_under_changes_make_no_answer_wrong_and_lose_none(site: Site) -> None:
    seconds = 60 * MINUTES
    soak = Soak(site, SEED, tell)
    soak.run(seconds)
    report = soak.report
    assert not report.wrong, "\n".join([f"seed {SEED}: {report}", *report.wrong[:10], site.server.said()])
    assert report.stream_wrong == 0, report
    # A worker that is killed takes along what it had read and not answered yet.
    assert report.lost <= report.restarts["worker"], report
    assert report.questions >= LEAST_QUESTIONS_PER_SECOND * seconds, report
    assert report.undecided <= MAX_UNDECIDED * report.questions, report
    assert sum(report.restarts.values()) >= seconds / RESTART_SECONDS / 3, report
    assert set(report.rcodes) == {"NOERROR", "EMPTY", "NXDOMAIN"}, report.rcodes
