"""What the hash of a configuration covers, and the encoding it is taken over."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import ServerBlock, Token, parse, reload_hash
from kdns.corefile.reload_hash import _encode_blocks


def hash_text(text: str, environ: dict[str, str] | None = None) -> str:
    return reload_hash(parse(text, "Corefile", None, environ or {}), "Corefile")


def encode(text: str) -> str:
    return _encode_blocks(parse(text, "Corefile", None, {}), "Corefile")


def test_comments_blanks_and_default_braces_do_not_count() -> None:
    assert hash_text(". {\n  errors # x\n}\n# y") == hash_text(". {\nerrors\n}")


def test_lines_arguments_environment_and_order_count() -> None:
    texts = [". {\nerrors\n}", ". {\n\nerrors\n}", ". {\nerrors a\n}", "a {\nerrors\n}", ". {\nlog\nlog b\n}"]
    assert len({hash_text(text) for text in texts}) == len(texts)
    assert hash_text(". {\nlog {$A}\n}", {"A": "1"}) != hash_text(". {\nlog {$A}\n}", {"A": "2"})


def test_the_order_of_directives_does_not_count_beyond_their_lines() -> None:
    assert hash_text(". { log\n}") != hash_text(". { errors\n}")
    first, second = Token("Corefile", 2, "log"), Token("Corefile", 2, "errors")
    one = ServerBlock((".",), {"log": (first,), "errors": (second,)}, "Corefile", 1)
    other = ServerBlock((".",), {"errors": (second,), "log": (first,)}, "Corefile", 1)
    assert reload_hash([one], "Corefile") == reload_hash([other], "Corefile")


def test_no_block_encodes_as_null() -> None:
    assert encode("# nothing") == "null"
    assert hash_text("") == hashlib.sha512(b"null").hexdigest()


def test_a_block_encodes_as_its_keys_and_its_tokens_by_directive() -> None:
    assert encode("A.test:53, b {\n log . {\n class <all>\n }\n cache\n}") == (
        '[{"Keys":["A.test:53","b"],"Tokens":{"cache":[{"File":"","Line":5,"Text":"cache"}],'
        '"log":[{"File":"","Line":2,"Text":"log"},{"File":"","Line":2,"Text":"."},{"File":"","Line":2,"Text":"{"},'
        '{"File":"","Line":3,"Text":"class"},{"File":"","Line":3,"Text":"\\u003call\\u003e"},'
        '{"File":"","Line":4,"Text":"}"}]}}]'
    )


def test_a_block_without_directives_has_an_empty_object() -> None:
    assert encode("a {\n}") == '[{"Keys":["a"],"Tokens":{}}]'


def test_imported_tokens_keep_their_file(tmp_path: Path) -> None:
    imported = tmp_path / "x.conf"
    imported.write_text("errors\n")
    main = str(tmp_path / "Corefile")
    blocks = parse(". {\nimport x.conf\n}", main, None, {})
    assert f'{{"File":"{imported}","Line":1,"Text":"errors"}}' in _encode_blocks(blocks, main)


def test_text_is_escaped_as_go_escapes_it() -> None:
    raw = '"\\<>&\b\f\n\r\t\x01\x7f\u2028\u2029\u00e9\U0001f600\udcff'
    block = ServerBlock((raw,), {}, "Corefile", 1)
    assert _encode_blocks([block], "Corefile") == (
        '[{"Keys":["\\"\\\\\\u003c\\u003e\\u0026\\b\\f\\n\\r\\t\\u0001\x7f\\u2028\\u2029\u00e9\U0001f600\\ufffd"],'
        '"Tokens":{}}]'
    )


@given(st.text())
def test_the_encoding_is_json(text: str) -> None:
    block = ServerBlock((text,), {text: (Token(text, 1, text),)}, "F", 1)
    tokens = {text: [{"File": text, "Line": 1, "Text": text}]}
    assert json.loads(_encode_blocks([block], "another file " + text)) == [{"Keys": [text], "Tokens": tokens}]
