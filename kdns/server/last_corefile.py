"""The last Corefile that was served, kept in the folder of --state-dir for a start whose Corefile is refused.

It is kept as parsed: with what its imports and its environment said then, and with the files and lines errors cite.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from kdns import log
from kdns.corefile import ServerBlock, Token
from kdns.server.context import Corefile

NAME = "corefile.json"
VERSION = 1
MAX_OCTETS = 64 << 20  # of the file; a million tokens, the parser's own limit, take fewer


class LastCorefile(NamedTuple):
    """A kept Corefile, and the file it was kept in."""

    corefile: Corefile
    path: Path


class _Block(msgspec.Struct, array_like=True):
    keys: list[str]
    directives: dict[str, list[tuple[str, int, str]]]  # tokens: file, line, text
    file: str
    line: int


class _Kept(msgspec.Struct):
    version: int
    name: str
    digest: str
    blocks: list[_Block]


def save_corefile(folder: Path, corefile: Corefile) -> None:
    """Keep it in place of the one before. Raises OSError."""
    blocks = [
        _Block(
            list(block.keys),
            {name: [(word.file, word.line, word.text) for word in words] for name, words in block.directives.items()},
            block.file,
            block.line,
        )
        for block in corefile.blocks
    ]
    encoded = msgspec.json.encode(_Kept(VERSION, corefile.name, corefile.digest, blocks))
    path = folder / NAME
    if path.exists() and path.read_bytes() == encoded:
        return
    # Only the owner may read it: what comes from the environment may be secret.
    import tempfile  # 3 ms of every start, for what is kept when it is over

    fd, draft = tempfile.mkstemp(prefix=f"{NAME}.", suffix=".new", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(encoded)
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def load_corefile(folder: Path) -> LastCorefile | None:
    """The kept one; None where there is none, or none that is whole, which is a line in the log."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            kept = msgspec.json.decode(file.read(MAX_OCTETS), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.logger().warning("%s is not used: %s", path, error)
        return None
    if kept.version != VERSION:
        log.logger().warning("%s is not used: version %d, expected %d", path, kept.version, VERSION)
        return None
    blocks = tuple(
        ServerBlock(
            tuple(block.keys),
            {name: tuple(Token(*token) for token in tokens) for name, tokens in block.directives.items()},
            block.file,
            block.line,
        )
        for block in kept.blocks
    )
    return LastCorefile(Corefile(kept.name, blocks, kept.digest), path)
