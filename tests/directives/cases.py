"""What directives do, as data: Corefiles that start or fail, and steps against the ones that run.

A file has a `corefile`, or a `corefile_file` beside it, and around that

- `conf`: the name the Corefile gets; `etc/...` is a file of /etc, here and in every other name;
- `files`, `etc` (below /etc), `resolv_conf`, `etc_hosts`, `env`, `local_ips`: what the server finds around it;
- `upstreams`: address to resolver, as `tests/fakes/scripted_resolver.py` reads it; with `tls`, `ca_to` names the file
  the certificate of its authority is put into;
- `objects_file` and `objects`: the cluster; `incluster` lets a Pod's service account lead to it; `wait_for` is a name
  of it that must be there before the first step;
- `listen`: where the server must answer before that; `port`: where it is asked; `client_ip`: from where;
- `alone`: why it cannot do with other ports and addresses than its own; `may_exit`: the server may end by itself;
- `starts`, `steps`, and `steps_file`: steps that several files share, done first.

A start has its own `corefile` or `corefile_file`, `files`, `env` and `args`; expected are `exit` (`running`, or the
status) and what standard error holds: `stderr`, whole lines in which {dir} is the working directory, or `stderr_re`.

A step is one of
- `q` (with `type`, `class`, `transport`, `server`, `port`, `client_ip`, `edns`, `flags`, `serial`, `timeout`): the
  reply, as `comparison.py` reads it. `repeat` asks again: `orders` is `one` or `many`, `firsts` says how often an
  address stood first, `varies` allows other records. `until` asks until that regular expression is found in the rcode
  and the answer, at most `within` seconds;
- `seen`: how many queries (`n`, or [least, most]) that `where` fits came to an upstream since the last `mark`;
- `http` (`HOST:PORT/PATH`): `status` (0: refused), `body`, `body_re`, `lines` that must and `nolines` that must not be
  there;
- `log`, `nolog`: whole lines, regular expressions, since the last `logmark`;
- `burst`: `count` queries at once, {i} in the name is the number; `rcodes` counts what comes back;
- `pipeline`: queries on one connection at once; `order` of the replies, unless `any_order`, and their `rcodes`;
- `process`: `running`, or `exit N`, after at most `within` seconds;
- something done: `upstream` with `set`, `write` (null removes a file), `signal` (without SIG), `apply` and `delete`
  (objects), `sleep`, `mark`, `logmark`.

`deliberate` marks what kdns does otherwise on purpose; `coredns` then holds what CoreDNS does, for readers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data")
ETC = "etc/"
DEFAULT_LISTEN = ("127.0.0.1:53",)
SECTIONS = ("answer", "authority", "additional")
DEFAULT_WITHIN = {"log": 3.0, "nolog": 3.0, "http": 1.0, "process": 6.0, "q": 8.0}  # seconds

Step = Mapping[str, Any]

_FILE_KEYS = frozenset(
    {"name", "area", "note", "corefile", "corefile_file", "conf", "files", "etc", "resolv_conf", "etc_hosts", "env"}
    | {"local_ips", "upstreams", "ca_to", "objects_file", "objects", "incluster", "wait_for", "listen", "port"}
    | {"client_ip", "alone", "may_exit", "starts", "steps", "steps_file"}
)
_START_KEYS = frozenset(
    {"id", "note", "deliberate", "coredns", "corefile", "corefile_file", "files", "env", "args"}
    | {"exit", "stderr", "stderr_re"}
)
_ASKED = frozenset({"type", "class", "transport", "server", "port", "client_ip", "edns", "flags", "serial", "timeout"})
_REPLY = frozenset(
    {"no_reply", "rcode", "aa", "tc", "ra", "ad", "cd", "ignore", "opt", "ordered", "case_sensitive", "max_size"}
    | {*SECTIONS, *(f"{name}_subset_of" for name in SECTIONS)}
)
_KEYS_OF_KIND: Mapping[str, frozenset[str]] = {
    "q": _ASKED | _REPLY | {"repeat", "varies", "orders", "firsts", "until", "within"},
    "seen": frozenset({"where", "n", "within"}),
    "http": frozenset({"status", "body", "body_re", "lines", "nolines", "within"}),
    "log": frozenset({"nolog", "within"}),
    "nolog": frozenset({"log", "within"}),
    "logmark": frozenset(),
    "burst": frozenset({"rcodes"}),
    "pipeline": frozenset({"order", "any_order", "rcodes"}),
    "process": frozenset({"within"}),
    "upstream": frozenset({"set"}),
    "write": frozenset(),
    "signal": frozenset(),
    "apply": frozenset({"delete"}),
    "delete": frozenset({"apply"}),
    "sleep": frozenset(),
    "mark": frozenset(),
}
_STEP_KEYS = frozenset({"id", "note", "deliberate", "coredns"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A Corefile and what the server finds around it."""

    corefile: str
    conf: str = "Corefile"
    files: Mapping[str, str] = field(default_factory=dict)
    etc: Mapping[str, str] = field(default_factory=dict)
    resolv_conf: str | None = None
    hosts: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    local_addresses: Sequence[str] = ()
    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    authority_file: str | None = None
    objects: Sequence[Mapping[str, Any]] = ()
    is_in_cluster: bool = False
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """A Corefile, and whether it starts."""

    id: str
    surroundings: Surroundings
    exit: int | str
    stderr: Sequence[str] = ()
    stderr_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One file."""

    name: str
    surroundings: Surroundings
    listen: Sequence[str]
    port: int
    client: str | None
    wait_for: str | None
    may_end: bool
    obstacle: str  # why it cannot be asked on the machine's own loopback; empty if it can
    starts: Sequence[Start]
    steps: Sequence[Step]

    @property
    def checks(self) -> int:
        """How much it holds the server to."""
        return len(self.starts) + sum("id" in step for step in self.steps)

    @property
    def pauses_seconds(self) -> float:
        """How long it waits for nothing but time."""
        return sum(float(step.get("sleep", 0)) for step in self.steps)


def case_paths() -> list[Path]:
    """Every file with a case."""
    return [path for path in sorted(DATA.rglob("*.yaml")) if path.parent.name not in ("objects", "steps")]


def name_of(path: Path) -> str:
    """What a case is called: its path below the data."""
    return str(path.relative_to(DATA).with_suffix(""))


def load(path: Path, name: str = "") -> Case:
    """Read one file; an unknown key is an error, for it would be something nobody checks."""
    raw = yaml.safe_load(path.read_text())
    _refuse_unknown(path, raw, _FILE_KEYS)
    steps = [*_steps_of(path, raw.get("steps_file")), *raw.get("steps", ())]
    for step in steps:
        _refuse_unknown(path, step, _STEP_KEYS | {kind_of(step)} | _KEYS_OF_KIND[kind_of(step)])
    surroundings = Surroundings(
        corefile=_corefile(path, raw),
        conf=raw.get("conf", "Corefile"),
        files=raw.get("files", {}),
        etc=raw.get("etc", {}),
        resolv_conf=raw.get("resolv_conf"),
        hosts=raw.get("etc_hosts"),
        environment=raw.get("env", {}),
        local_addresses=_local_addresses(raw, steps),
        upstreams={address: spec or {} for address, spec in raw.get("upstreams", {}).items()},
        authority_file=raw.get("ca_to"),
        objects=_objects(path, raw),
        is_in_cluster=raw.get("incluster", False),
    )
    return Case(
        name=name or path.stem,
        surroundings=surroundings,
        listen=raw.get("listen", DEFAULT_LISTEN),
        port=raw.get("port", 53),
        client=raw.get("client_ip"),
        wait_for=raw.get("wait_for"),
        may_end=raw.get("may_exit", False),
        obstacle=raw.get("alone") or _obstacle(surroundings),
        starts=[_start(path, start) for start in raw.get("starts", ())],
        steps=steps,
    )


def kind_of(step: Step) -> str:
    """What a step does."""
    return next(kind for kind in _KEYS_OF_KIND if kind in step)


def _start(path: Path, raw: Mapping[str, Any]) -> Start:
    _refuse_unknown(path, raw, _START_KEYS)
    surroundings = Surroundings(
        corefile=_corefile(path, raw),
        files=raw.get("files", {}),
        environment=raw.get("env", {}),
        arguments=raw.get("args", ()),
    )
    return Start(raw["id"], surroundings, raw["exit"], raw.get("stderr", ()), raw.get("stderr_re"))


def _corefile(path: Path, raw: Mapping[str, Any]) -> str:
    if "corefile_file" in raw:
        found: Path = path.parent / raw["corefile_file"]
        return found.read_text()
    return str(raw.get("corefile", ""))


def _steps_of(path: Path, name: str | None) -> Sequence[Step]:
    return [] if name is None else list(yaml.safe_load((path.parent / name).read_text()))


def _objects(path: Path, raw: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    shared = yaml.safe_load((path.parent / raw["objects_file"]).read_text()) if "objects_file" in raw else []
    return [*shared, *raw.get("objects", ())]


def _local_addresses(raw: Mapping[str, Any], steps: Sequence[Step]) -> Sequence[str]:
    clients = {found["client_ip"] for found in (raw, *steps) if "client_ip" in found}
    return sorted({*raw.get("local_ips", ()), *clients})


def _obstacle(around: Surroundings) -> str:
    """Why a case cannot do with addresses of 127.0.0.0/8 and free ports."""
    outer = [address for address in around.local_addresses if not ipaddress.ip_address(address).is_loopback]
    if outer:
        return f"it has addresses of its own: {', '.join(outer)}"
    if around.etc or around.hosts or around.resolv_conf or around.conf.startswith(ETC) or around.is_in_cluster:
        return "it has files of its own in /etc or /var/run"
    if any(":" in address for address in around.upstreams):
        return "it has an upstream over IPv6"
    return ""


def _refuse_unknown(path: Path, found: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = set(found) - known
    if unknown:
        raise ValueError(f"{path.name}: unknown keys {sorted(unknown)}")
