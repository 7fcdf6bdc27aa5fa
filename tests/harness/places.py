"""Where a server runs in a test: a network namespace of its own, or the loopback of the machine.

A namespace belongs to a thread: whatever that thread opens or starts lives in it, and the rest of the tests is not
touched. Sockets opened there may be used from any thread. When the thread ends and the last process is gone, the
kernel takes the namespace away, with every address in it.

    place = open_namespace()
    place.run(lambda: socket.create_connection(("127.0.0.1", 53)))

Making one needs CAP_SYS_ADMIN, which an unprivileged container does not have. `open_place` then falls back to the
loopback, where the ports of a Corefile are moved to free ones; what needs addresses of its own asks for
`open_namespace` and fails with the reason.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

CLONE_NEWNET = 0x40000000
DNS_PORT = 53
_WIRE = "wire0"  # the interface at either end of a wire between two namespaces
_KEY_PORT = re.compile(r":53(?=[\s,{]|$)")

T = TypeVar("T")


class NamespaceError(Exception):
    """This machine does not let the tests make a network namespace."""


class Place(Protocol):
    """What a test needs to know of where its server runs."""

    dns_port: int
    namespace: int | None  # inode of the network namespace, None on the machine's loopback

    def run(self, job: Callable[[], T]) -> T:
        """Run `job` there and return what it returns."""

    def with_own_ports(self, text: str) -> str:
        """A Corefile, or a line about one, with its ports as this place has them."""

    def add_address(self, address: str) -> None:
        """Give the place one more address."""

    def close(self) -> None:
        """Leave nothing behind."""


class Loopback:
    """The loopback of the machine, with a free port for every port 53."""

    namespace: int | None = None

    def __init__(self) -> None:
        self.dns_port = free_port()

    def run(self, job: Callable[[], T]) -> T:
        """Run `job` here and now."""
        return job()

    def with_own_ports(self, text: str) -> str:
        """The text with `:53` of keys, which begin in the first column, replaced by the free port."""
        lines = text.splitlines(keepends=True)
        return "".join(line if line[:1].isspace() else _KEY_PORT.sub(f":{self.dns_port}", line) for line in lines)

    def add_address(self, address: str) -> None:
        """Only loopback addresses are there."""
        if not address.startswith("127.") and address != "::1":
            raise NamespaceError(f"{address} cannot be added outside a network namespace: {_namespace_refusal()}")

    def close(self) -> None:
        """Nothing was made."""


class Namespace:
    """A network namespace with a loopback of its own, kept by a thread."""

    def __init__(self) -> None:
        self.dns_port = DNS_PORT
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        entered: Future[int] = Future()
        self._thread = threading.Thread(target=self._live, args=(entered,), name="namespace", daemon=True)
        self._thread.start()
        try:
            self.namespace: int | None = entered.result()
        except OSError as error:
            self._thread.join()
            raise NamespaceError(f"no network namespace can be made here: {error}") from error
        self.run(lambda: _ip("link", "set", "lo", "up"))

    def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the namespace and return what it returns."""
        if threading.current_thread() is self._thread:
            return job()
        done: Future[T] = Future()
        self._jobs.put((job, done))
        return done.result()

    def with_own_ports(self, text: str) -> str:
        """The text as it is: every port is free."""
        return text

    def add_address(self, address: str) -> None:
        """Add an address that is not in 127.0.0.0/8 to the loopback interface."""
        if address.startswith("127.") or address == "::1":
            return
        # Without "nodad" an IPv6 address cannot be bound for a second.
        options = ("nodad",) if ":" in address else ()
        self.run(lambda: _ip("addr", "add", f"{address}/{128 if ':' in address else 32}", "dev", "lo", *options))

    def join(self, other: Namespace, own: Sequence[str], others: Sequence[str]) -> None:
        """Lay a wire to another namespace; addresses, with their prefix lengths, at this end and at that.

        Whatever has no other way goes over it.
        """
        at = str(other._thread.native_id)
        self.run(lambda: _ip("link", "add", _WIRE, "type", "veth", "peer", "name", _WIRE, "netns", at))
        for end, addresses in ((self, own), (other, others)):
            end.run(functools.partial(_set_up_wire, addresses))

    def close(self) -> None:
        """End the thread, and with it the namespace."""
        self._jobs.put(None)
        self._thread.join()

    def _live(self, entered: Future[int]) -> None:
        try:
            _unshare_network()
            entered.set_result(os.stat(f"/proc/self/task/{threading.get_native_id()}/ns/net").st_ino)
        except OSError as error:
            entered.set_exception(error)
            return
        while (work := self._jobs.get()) is not None:
            job, done = work
            try:
                done.set_result(job())
            except BaseException as error:  # handed to whoever asked, whatever it is
                done.set_exception(error)


def open_namespace() -> Namespace:
    """A network namespace, or a `NamespaceError` that says what is missing."""
    refusal = _namespace_refusal()
    if refusal:
        raise NamespaceError(refusal)
    return Namespace()


def open_place() -> Place:
    """A network namespace where that is permitted, else the loopback of the machine."""
    return Loopback() if _namespace_refusal() else Namespace()


def free_port() -> int:
    """A port of the loopback that nobody uses, over UDP and TCP, IPv4 and IPv6."""
    for _ in range(100):
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("::", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("::", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free over both UDP and TCP")


def with_files(argv: Sequence[str], files: Mapping[str, Path]) -> list[str]:
    """The command that runs `argv` while it alone sees `files`, or folders, in place of those of the machine."""
    binds = "".join(f"mount --bind {shlex.quote(str(path))} {shlex.quote(at)} && " for at, path in files.items())
    return ["unshare", "--mount", "--", "sh", "-c", f'{binds}exec "$@"', "sh", *argv]


@functools.cache
def _namespace_refusal() -> str:
    """Why no namespace can be made here; empty if one can."""
    try:
        Namespace().close()
    except (NamespaceError, OSError, subprocess.CalledProcessError) as error:
        return f"{error} (needs root and iproute2; without root, run the tests under `unshare --user --map-root-user`)"
    return ""


def _unshare_network() -> None:
    """Give the calling thread a network namespace of its own (os.unshare comes with Python 3.12)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _set_up_wire(addresses: Sequence[str]) -> None:
    for address in addresses:
        _ip("addr", "add", address, "dev", _WIRE, *(("nodad",) if ":" in address else ()))
    _ip("link", "set", _WIRE, "up")
    _ip("route", "add", "default", "dev", _WIRE)
    for limit in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
        # A port nobody listens on is to say so every time, as over the loopback.
        with suppress(OSError):
            Path("/proc/sys/net", limit).write_text("0")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
