"""Fixtures for tests on a real control plane; import them into the `conftest.py` of a folder that has such tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.build import BuildError, build_controlplane
from tests.controlplane.cluster import ControlPlane

__all__ = ["controlplane", "controlplane_binary"]


@pytest.fixture(scope="session")
def controlplane_binary(request: pytest.FixtureRequest) -> Path:
    """The binary; building it may take minutes, so what is waited for is said past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\n{text}")

    try:
        return build_controlplane(say)
    except BuildError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="package")
def controlplane(controlplane_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane that tests share: each keeps to a namespace of its own."""
    with ControlPlane(controlplane_binary, tmp_path_factory.mktemp("controlplane")) as running:
        yield running
