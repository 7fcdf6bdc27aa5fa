"""The last good Corefile: kept as parsed, and served at a start whose Corefile is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import ServerBlock, Token
from kdns.errors import CorefileError, StartError
from kdns.server.configuration import Arguments, close_sockets, fingerprint_of, parse_corefile, start_up
from kdns.server.context import Corefile
from kdns.server.last_corefile import NAME, load_corefile, save_corefile
from tests.fakes.logs import collected
from tests.harness.places import free_port

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TOKENS = st.lists(st.builds(Token, TEXT, st.integers(0, 1 << 40), TEXT), max_size=3).map(tuple)
BLOCKS = st.builds(
    ServerBlock,
    st.lists(TEXT, max_size=3).map(tuple),
    st.dictionaries(TEXT, TOKENS, max_size=3),
    TEXT,
    st.integers(0, 1 << 40),
)
COREFILES = st.builds(Corefile, TEXT, st.lists(BLOCKS, max_size=3).map(tuple), TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@given(corefile=COREFILES)
def test_what_is_kept_comes_back(folder: Path, corefile: Corefile):
    save_corefile(folder, corefile)
    last = load_corefile(folder)
    assert last is not None
    assert last.corefile == corefile
    assert os.listdir(folder) == [NAME]


@given(octets=st.binary(max_size=40))
def test_what_is_damaged_is_not_used_and_said(folder: Path, octets: bytes):
    (folder / NAME).write_bytes(octets)
    with collected() as lines:
        assert load_corefile(folder) is None
    assert len(lines) == 1
    assert lines[0].startswith(f"[WARNING] {folder / NAME} is not used: ")


def test_another_version_is_not_used(tmp_path: Path):
    save_corefile(tmp_path, Corefile("Corefile", (), ""))
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with collected() as lines:
        assert load_corefile(tmp_path) is None
    assert lines == [f"[WARNING] {path} is not used: version 2, expected 1"]


def test_none_is_none(tmp_path: Path):
    with collected() as lines:
        assert load_corefile(tmp_path) is None
    assert lines == []


def test_only_its_owner_reads_it_and_it_is_written_only_when_it_changes(tmp_path: Path):
    save_corefile(tmp_path, Corefile("Corefile", (), "1"))
    before = (tmp_path / NAME).stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    save_corefile(tmp_path, Corefile("Corefile", (), "1"))
    assert (tmp_path / NAME).stat().st_ino == before.st_ino
    save_corefile(tmp_path, Corefile("Corefile", (), "2"))
    assert (tmp_path / NAME).stat().st_ino != before.st_ino


# A start


def arguments_of(folder: Path, state_dir: Path | None) -> Arguments:
    return Arguments(
        conf=str(folder / "Corefile"),
        port=free_port(),
        workers=1,
        manifests=str(folder),
        state_dir=None if state_dir is None else str(state_dir),
        state_max_age_seconds=60.0,
    )


def keep(arguments: Arguments, text: str) -> Corefile:
    """Keep a Corefile as a service that ran it would have."""
    assert arguments.state_dir is not None
    corefile = parse_corefile(text, arguments)
    save_corefile(Path(arguments.state_dir), corefile)
    return corefile


GOOD, BAD = "bind 127.0.0.1\nwhoami", "nonsense"


def test_a_start_whose_corefile_is_refused_serves_the_last_one_and_says_so(tmp_path: Path):
    arguments = arguments_of(tmp_path, tmp_path)
    (tmp_path / "more.conf").write_text(GOOD)
    kept = keep(arguments, ". {\nimport more.conf\n}\n")
    (tmp_path / "more.conf").unlink()  # what it imported then is kept as well
    text = f". {{\n{BAD}\n}}\n"
    (tmp_path / "Corefile").write_text(text)
    with collected() as lines:
        context, tried = start_up(arguments)
    try:
        assert context.corefile == kept
        assert tried == fingerprint_of(text, arguments)  # not to be tried again before it changes
        assert lines == [
            f"[ERROR] {arguments.conf}:2 - Error during parsing: Unknown directive 'nonsense'",
            f"[ERROR] {arguments.conf} is NOT in use: the last good one is served instead, from {tmp_path / NAME}",
        ]
    finally:
        close_sockets(context, None)


@pytest.mark.parametrize("has_state_dir", [True, False])
def test_without_a_last_one_a_start_fails_as_ever(tmp_path: Path, has_state_dir: bool):
    (tmp_path / "Corefile").write_text(f". {{\n{BAD}\n}}\n")
    with pytest.raises(CorefileError, match="Unknown directive 'nonsense'"):
        start_up(arguments_of(tmp_path, tmp_path if has_state_dir else None))


def test_a_corefile_that_is_missing_is_no_reason_to_serve_another(tmp_path: Path):
    arguments = arguments_of(tmp_path, tmp_path)
    keep(arguments, f". {{\n{GOOD}\n}}\n")
    with pytest.raises(StartError, match=r"^loading Caddyfile via flag: open .*: no such file or directory$"):
        start_up(arguments)


def test_a_good_corefile_is_served_whatever_is_kept(tmp_path: Path):
    arguments = arguments_of(tmp_path, tmp_path)
    keep(arguments, ". {\nbind 127.0.0.1\nerrors\n}\n")
    (tmp_path / "Corefile").write_text(f". {{\n{GOOD}\n}}\n")
    with collected() as lines:
        context, _ = start_up(arguments)
    try:
        assert "whoami" in context.corefile.blocks[0].directives
        assert lines == []
    finally:
        close_sockets(context, None)


def test_a_corefile_that_cannot_be_parsed_has_a_fingerprint_too(tmp_path: Path):
    arguments = arguments_of(tmp_path, None)
    found = {fingerprint_of(text, arguments) for text in (". {", ". {\n", ". {\n\n", ". { }", '"')}
    assert len(found) >= 4
