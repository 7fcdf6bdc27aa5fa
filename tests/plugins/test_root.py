"""`root`: where relative paths begin."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.directives import build, refused
from tests.fakes.logs import collected


def folder(directives: str) -> str:
    (listener,) = build(f".:53 {{\n{directives}\nwhoami\n}}").listeners
    return listener.zones[b"\0"].settings.folder


def test_the_last_line_counts(tmp_path: Path):
    assert folder("") == ""
    assert folder(f"root {tmp_path}") == str(tmp_path)
    assert folder(f"root /\nroot {tmp_path}") == str(tmp_path)


def test_hosts_files_are_found_there(tmp_path: Path):
    (tmp_path / "names").write_text("192.0.2.1 a.test\n")
    with collected() as lines:
        build(f".:53 {{\nroot {tmp_path}\nhosts names\n}}")
        build(f".:53 {{\nroot /nowhere\nhosts {tmp_path}/names\n}}")
    assert lines == ["[WARNING] plugin/root: Root path does not exist: /nowhere"]


def test_mistakes_are_refused(tmp_path: Path):
    text = "Wrong argument count or unexpected line ending after 'root'"
    assert refused("root") == f"plugin/root: Corefile:2 - Error during parsing: {text}"
    path = tmp_path / "file"
    path.touch()
    text = f"unable to access root path '{path}/x': stat {path}/x: not a directory"
    assert refused(f"root {path}/x") == f"plugin/root: Corefile:2 - Error during parsing: {text}"
