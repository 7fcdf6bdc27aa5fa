"""Whatever a file holds, it has server blocks or one error that says where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.corefile import decode, parse, reload_hash
from kdns.errors import CorefileError

WORDS = st.sampled_from(
    [
        *(
            "{",
            "}",
            "\n",
            "\n",
            "a.test",
            "b.test,",
            "errors",
            "log",
            "unknown",
            "import",
            "(s)",
            "s",
            "x.conf",
            "*.conf",
        ),
        *("nothing*", '"', '"a b"', '"a\nb"', '""', "#", "x#y", "{$A}", "{$B}", "{$", "\r", "\ufeff", "[", "\\", "\0"),
    ]
)
TEXTS = st.text() | st.binary().map(decode) | st.lists(WORDS, max_size=40).map(" ".join)


@pytest.fixture(scope="module")
def corefile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("corefile")
    (folder / "x.conf").write_text("errors\nlog {\n")
    (folder / "y.conf").write_text("(s) {\nimport x.conf\n}\n")
    return str(folder / "Corefile")


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(text=TEXTS, known=st.sampled_from([None, ("errors", "log")]))
def test_any_text_gives_blocks_or_a_positioned_error(corefile: str, text: str, known: tuple[str, ...] | None) -> None:
    warnings: list[str] = []
    environ = {"A": "a b", "B": "{$B}"}
    try:
        blocks = parse(text, corefile, known, environ, warnings.append)
    except CorefileError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert re.fullmatch(r"/.*:\d+ - (Error during parsing|Syntax error): .*", refusal)
        return
    assert all(warning.startswith("No files matching import glob pattern: ") for warning in warnings)
    for block in blocks:
        assert block.keys
        assert block.line >= 1
        assert all(tokens for tokens in block.directives.values())
        assert known is None or block.directives.keys() <= set(known)
    again = parse(text, corefile, None, environ)
    assert reload_hash(blocks, corefile) == reload_hash(again, corefile)
