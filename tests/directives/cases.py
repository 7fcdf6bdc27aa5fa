"""What directives do, as data: Corefiles that start or fail, and steps against the ones that run.

Keys of a file: `corefile`, `files` and `env` beside it, `listen` and `port`, then `starts` and `steps`.

A start has its own `corefile`, `files`, `env` and `args`; expected are `exit` (`running`, or the status) and what
standard error holds: `stderr`, whole lines in which {dir} is the working directory, or `stderr_re`.

A step is one of
- `q` (with `type`, `port`, `transport`): `rcode`, `aa`, and the sections, empty unless `ignore` names them;
- `http` (`:PORT/PATH`): `status` (0: refused) and `body`;
- `log`: whole lines, regular expressions, all to be seen;
- `signal`: a name without SIG;
- `process`: `exit N`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data")
WAITING = Path(__file__).with_name("waiting.yaml")
_FILE_KEYS = frozenset({"name", "area", "note", "corefile", "files", "env", "listen", "port", "starts", "steps"})
_START_KEYS = frozenset({"id", "note", "corefile", "files", "env", "args", "exit", "stderr", "stderr_re"})
_STEP_KEYS = frozenset(
    {"id", "note", "q", "type", "port", "transport", "ignore", "rcode", "aa", "ra", "opt", "answer", "authority"}
    | {"additional", "http", "status", "body", "log", "signal", "process", "within"}
)


@dataclass(frozen=True, slots=True)
class Start:
    """A Corefile, and whether it starts."""

    id: str
    corefile: str
    files: Mapping[str, str]
    environment: Mapping[str, str]
    arguments: Sequence[str]
    exit: int | str
    stderr: Sequence[str]
    stderr_pattern: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One file."""

    name: str
    corefile: str
    files: Mapping[str, str]
    environment: Mapping[str, str]
    listen: Sequence[str]
    port: int | None
    starts: Sequence[Start]
    steps: Sequence[Mapping[str, Any]]


def load(path: Path) -> Case:
    """Read one file; an unknown key is an error, for it would be something nobody checks."""
    document = yaml.safe_load(path.read_text())
    _refuse_unknown(path, document, _FILE_KEYS)
    for step in document.get("steps", []):
        _refuse_unknown(path, step, _STEP_KEYS)
    return Case(
        name=path.stem,
        corefile=document.get("corefile", ""),
        files=document.get("files", {}),
        environment=document.get("env", {}),
        listen=document.get("listen", ["127.0.0.1:53"]),
        port=document.get("port"),
        starts=[_start(path, start) for start in document.get("starts", [])],
        steps=document.get("steps", []),
    )


def waiting() -> dict[str, str]:
    """Files, or `file/id`, that cannot pass yet: name to the directive they wait for."""
    return dict(yaml.safe_load(WAITING.read_text()))


def _start(path: Path, raw: Mapping[str, Any]) -> Start:
    _refuse_unknown(path, raw, _START_KEYS)
    return Start(
        id=raw["id"],
        corefile=raw["corefile"],
        files=raw.get("files", {}),
        environment=raw.get("env", {}),
        arguments=raw.get("args", []),
        exit=raw["exit"],
        stderr=raw.get("stderr", []),
        stderr_pattern=raw.get("stderr_re"),
    )


def _refuse_unknown(path: Path, found: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = set(found) - known
    if unknown:
        raise ValueError(f"{path.name}: unknown keys {sorted(unknown)}")
