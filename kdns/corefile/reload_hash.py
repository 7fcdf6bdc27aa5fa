"""The fingerprint of a configuration, as the `reload` directive of CoreDNS logs and exports it.

SHA-512 over the parsed Corefile as compact JSON, in the form Go's encoder gives it: an array of

    {"Keys":["a.test:53"],"Tokens":{"cache":[{"File":"","Line":3,"Text":"cache"},...]}}

Since the parsed form is hashed, comments and indentation do not count, imports and environment variables do, and so
does the line a token stands on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from kdns.corefile.lexer import Token
from kdns.corefile.parser import ServerBlock

# Go escapes what HTML or JavaScript would trip over, next to what JSON demands.
_ESCAPED = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029\ud800-\udfff]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def reload_hash(blocks: Iterable[ServerBlock], filename: str) -> str:
    """The SHA-512 of parsed `blocks` in hexadecimal; tokens cited as `filename`, the main file's, hash without a file.

    Blocks of an empty Corefile are none: the built-in configuration that stands in for it does not count.
    """
    return hashlib.sha512(_encode_blocks(blocks, filename).encode()).hexdigest()


def _encode_blocks(blocks: Iterable[ServerBlock], filename: str) -> str:
    encoded = [
        f'{{"Keys":[{_join(map(_encode_text, block.keys))}],"Tokens":{{{_encode_directives(block, filename)}}}}}'
        for block in blocks
    ]
    return f"[{_join(encoded)}]" if encoded else "null"


def _encode_directives(block: ServerBlock, filename: str) -> str:
    return _join(
        f"{_encode_text(name)}:[{_join(_encode_token(token, filename) for token in tokens)}]"
        for name, tokens in sorted(block.directives.items())
    )


def _encode_token(token: Token, filename: str) -> str:
    file = "" if token.file == filename else token.file
    return f'{{"File":{_encode_text(file)},"Line":{token.line},"Text":{_encode_text(token.text)}}}'


def _encode_text(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda char: _escape(char[0]), text) + '"'


def _escape(char: str) -> str:
    if "\ud800" <= char <= "\udfff":  # an octet of the environment that is not UTF-8
        return "\\ufffd"
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04x}"


def _join(parts: Iterable[str]) -> str:
    return ",".join(parts)
