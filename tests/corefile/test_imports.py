"""Snippets and imported files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdns.corefile import ServerBlock, parse, parser
from kdns.errors import CorefileError


class Folder:
    """A folder with a Corefile and what it imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []

    def write(self, name: str, text: str) -> str:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return str(file)

    def parse(self, text: str) -> list[ServerBlock]:
        return parse(text, str(self.path / "Corefile"), ("errors", "log", "hosts", "cache"), {}, self.warnings.append)

    def refusal(self, text: str) -> str:
        with pytest.raises(CorefileError) as caught:
            self.parse(text)
        return str(caught.value).replace(str(self.path) + "/", "")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def lines_of(block: ServerBlock) -> dict[str, str]:
    return {name: " ".join(token.text for token in tokens) for name, tokens in block.directives.items()}


def test_a_snippet_serves_nothing_and_is_put_in_where_imported(folder: Folder) -> None:
    first, second = folder.parse(
        "(s) {\nerrors\nlog . {\nclass all\n}\n}\na {\nimport s\ncache\n}\nb {\ncache\nimport s\n}"
    )
    assert lines_of(first) == {"errors": "errors", "log": "log . { class all }", "cache": "cache"}
    assert lines_of(second) == lines_of(first)
    assert [token.line for token in second.directives["log"]] == [3, 3, 3, 4, 4, 5]


def test_snippets_may_import_snippets(folder: Folder) -> None:
    (block,) = folder.parse("(a) {\nerrors\n}\n(b) {\nimport a\nlog\n}\n. {\nimport b\n}")
    assert list(block.directives) == ["errors", "log"]


def test_a_snippet_twice_in_a_block_gives_its_lines_twice(folder: Folder) -> None:
    (block,) = folder.parse("(s) {\nlog x\n}\n. {\nimport s\nimport s\n}")
    assert [(token.text, token.line) for token in block.directives["log"]] == [("log", 2), ("x", 2)] * 2


def test_a_snippet_wins_over_a_file(folder: Folder) -> None:
    folder.write("s", "errors\n")
    (block,) = folder.parse("(s) {\nlog\n}\n. {\nimport s\n}")
    assert list(block.directives) == ["log"]


def test_a_name_in_parentheses_among_other_keys_is_a_key(folder: Folder) -> None:
    assert folder.parse("(s) a.test {\n}")[0].keys == ("(s)", "a.test")


def test_files_are_relative_to_the_one_that_imports_them(folder: Folder) -> None:
    folder.write("custom/one.server", "one.test {\nimport nested.conf\n}\n")
    nested = folder.write("custom/nested.conf", "errors\n")
    (block,) = folder.parse("import custom/one.server\n")
    assert block.keys == ("one.test",)
    assert (block.file, block.line) == (str(folder.path / "custom/one.server"), 1)
    assert [(token.file, token.line) for token in block.directives["errors"]] == [(nested, 1)]


def test_a_relative_corefile_imports_from_its_own_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("etc/x.conf", "errors\n")
    monkeypatch.chdir(folder.path)
    (block,) = parse(". {\nimport x.conf\n}", "etc/Corefile", None, {})
    assert block.directives["errors"][0].file == str(folder.path / "etc/x.conf")


def test_absolute_paths_are_taken_as_they_are(folder: Folder) -> None:
    path = folder.write("x/y.conf", "errors\n")
    assert lines_of(folder.parse(f". {{\nimport {path}\n}}")[0]) == {"errors": "errors"}


def test_patterns_meet_files_in_order_of_their_names(folder: Folder) -> None:
    for name in ("b", "a", "B", ".hidden"):
        folder.write(f"custom/{name}.override", f"log {name}\n")
    folder.write("custom/a.server", "nonsense")
    (block,) = folder.parse(". {\nimport custom/*.override\n}")
    assert lines_of(block) == {"log": "log .hidden log B log a log b"}


def test_patterns_may_stand_for_folders_and_single_characters(folder: Folder) -> None:
    folder.write("x/a1.conf", "log 1\n")
    folder.write("y/a2.conf", "log 2\n")
    folder.write("y/a22.conf", "nonsense")
    assert lines_of(folder.parse(". {\nimport */a?.conf\n}")[0]) == {"log": "log 1 log 2"}


def test_a_backslash_makes_a_wildcard_literal(folder: Folder) -> None:
    folder.write("a*.conf", "errors\n")
    folder.write("ab.conf", "nonsense")
    assert lines_of(folder.parse(". {\nimport a\\*.conf\n}")[0]) == {"errors": "errors"}


def test_a_pattern_without_files_is_a_warning(folder: Folder) -> None:
    (block,) = folder.parse("import none/*.server\n. {\nimport custom/*.override\nerrors\n}\nimport *.x\n")
    assert lines_of(block) == {"errors": "errors"}
    assert folder.warnings == [
        f"No files matching import glob pattern: {pattern}" for pattern in ("none/*.server", "custom/*.override", "*.x")
    ]


def test_a_file_of_comments_adds_nothing(folder: Folder) -> None:
    folder.write("custom/empty.override", "# nothing\n")
    assert lines_of(folder.parse(". {\nimport custom/*.override\n}")[0]) == {}
    assert folder.warnings == []


def test_imports_work_within_the_block_of_a_directive(folder: Folder) -> None:
    folder.write("data/lines.txt", "192.0.2.9 imported.test\n")
    (block,) = folder.parse(". {\nhosts {\nimport data/lines.txt\nfallthrough\n}\n}")
    assert lines_of(block) == {"hosts": "hosts { 192.0.2.9 imported.test fallthrough }"}


def test_import_is_an_argument_where_it_begins_no_line(folder: Folder) -> None:
    assert lines_of(folder.parse(". {\nlog import x\n}")[0]) == {"log": "log import x"}


def test_errors_cite_the_imported_file(folder: Folder) -> None:
    folder.write("part.conf", "errors\nnonsense\n")
    expected = f"{folder.path}/part.conf:2 - Error during parsing: Unknown directive 'nonsense'"
    with pytest.raises(CorefileError) as caught:
        folder.parse(".:53 {\n    import part.conf\n}\n")
    assert str(caught.value) == expected


def test_octets_that_are_not_utf8_are_read_in_imported_files(folder: Folder) -> None:
    (folder.path / "x.conf").write_bytes(b"\xef\xbb\xbflog caf\xe9\n")
    assert lines_of(folder.parse(". {\nimport x.conf\n}")[0]) == {"log": "log caf\ufffd"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".:53 {\n    import nothere\n}\n", "Corefile:2 - Error during parsing: File to import not found: nothere"),
        (
            ".:53 {\n    import\n}\n",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'import'",
        ),
        (
            ".:53 {\n import a b\n}\n",
            "Corefile:2 - Error during parsing: Import takes only one argument (glob pattern or file)",
        ),
        ('. {\nimport ""\n}', "Corefile:2 - Error during parsing: Import requires a non-empty filepath"),
        (". {\nimport folder\n}", "Corefile:2 - Error during parsing: Could not import folder: is a directory"),
        (
            ". {\nimport a*b*\n}",
            "Corefile:2 - Error during parsing: Glob pattern may only contain one wildcard (*), but has others: a*b*",
        ),
        (
            ". {\nimport [ab]\n}",
            "Corefile:2 - Error during parsing: Glob pattern may only contain one wildcard (*), but has others: [ab]",
        ),
        (
            ". {\nimport [a\n}",
            "Corefile:2 - Error during parsing: Failed to use import pattern [a: syntax error in pattern",
        ),
        (
            ". {\nimport dangling\n}",
            "Corefile:2 - Error during parsing: Could not import dangling: open dangling: no such file or directory",
        ),
        (
            "(s) {\nlog\n}\n(s) {\n}",
            "Corefile:4 - Error during parsing: redeclaration of previously declared snippet s",
        ),
        ("(s)\nlog\n", "Corefile:2 - Syntax error: Unexpected token 'log', expecting '{'"),
        ("(s) {\nlog {\n}\n", "Corefile:3 - Syntax error: Unexpected token '}', expecting '}'"),
        (
            "(s) {\nlog\nimport s\n}",
            "Corefile:4 - Error during parsing: maximum snippet import depth (10000) exceeded",
        ),
        (". {\nimport s\n}\n(s) {\n}", "Corefile:2 - Error during parsing: File to import not found: s"),
        ("a.test,\nimport none/*", "Corefile:0 - Error during parsing: Unexpected EOF"),
    ],
)
def test_errors(folder: Folder, text: str, message: str) -> None:
    (folder.path / "folder").mkdir()
    (folder.path / "dangling").symlink_to("nowhere")
    assert folder.refusal(text) == message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_refused(folder: Folder) -> None:
    os.chmod(folder.write("x.conf", ""), 0)
    message = "Corefile:2 - Error during parsing: Could not import x.conf: open x.conf: permission denied"
    assert folder.refusal(". {\nimport x.conf\n}") == message


def test_snippets_that_import_each_other_end(folder: Folder) -> None:
    message = "Corefile:5 - Error during parsing: maximum snippet import depth (10000) exceeded"
    assert folder.refusal("(a) {\nimport b\n}\n(b) {\nimport a\n}\n. {\nimport a\n}") == message


def test_files_that_import_themselves_end(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "MAX_FILE_EXPANSIONS", 100)
    folder.write("a.conf", "import a.conf\n")
    assert folder.refusal(". {\nimport a.conf\n}") == (
        "a.conf:1 - Error during parsing: maximum file import depth (10000) exceeded"
    )


def test_a_pattern_that_meets_the_corefile_itself_ends_before_memory_does(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "MAX_TOKENS", 1000)
    text = ". {\n" + "log a b c d e f g h i j\n" * 10 + "}\nimport *\n"
    folder.write("Corefile", text)
    assert folder.refusal(text) == (
        "Corefile:13 - Error during parsing: Imports bring in more than 1000 tokens, is there a cycle?"
    )
