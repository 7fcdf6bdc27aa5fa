"""Where a `forward` leads: addresses, host names and files in the syntax of resolv.conf, made addresses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from kdns.corefile.keys import DEFAULT_PORTS, MAX_PORT
from kdns.dns import names
from kdns.errors import CorefileError, FormatError

MAX_UPSTREAMS = 15  # of one directive, as CoreDNS
MAX_RESOLV_CONF = 1 << 20  # octets; a file that is larger is none

ASKED_SCHEMES = ("dns", "tls", "https")
_SCHEMES = ("dns", "tls", "https", "https3", "grpc", "quic", "unix")

Lookup = Callable[[str], Sequence[str]]  # a host name to its addresses


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream's address."""

    host: str  # an IP address; a link-local one with its scope
    port: int
    scheme: str = "dns"
    server_name: str = ""  # what its certificate must say; empty: as `tls_servername` says

    @property
    def place(self) -> tuple[str, int]:
        """What two entries must not share."""
        return self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """As socket.connect takes it."""
        host, _, scope = self.host.partition("%")
        if not scope:
            return self.host, self.port
        return host, self.port, 0, int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)


@dataclass(frozen=True, slots=True)
class HostName:
    """A host name, to be looked up at setup."""

    name: str
    port: int
    scheme: str
    server_name: str


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """A file that lists name servers, to be followed."""

    path: Path


Entry = Target | HostName | ResolvConf


def parse_entry(text: str) -> Entry:
    """One TO as it is written. Raises CorefileError where it is nothing known."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in _SCHEMES:
        scheme, rest = "dns", text
    if scheme == "https" and "/" in rest:
        raise CorefileError(
            f"paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default): {text}"
        )
    host, port, server_name = _split(rest, DEFAULT_PORTS[scheme])
    is_named = scheme in ("tls", "https")
    address = _as_address(host if is_named else _with_scope(host, server_name))
    if address is not None:
        return Target(address, port, scheme, server_name if is_named else "")
    path = Path(rest)
    if path.is_file():
        return ResolvConf(path)
    is_name = "/" not in host and not host.startswith(".") and _is_name(host)
    if scheme not in ASKED_SCHEMES or not is_name:
        raise CorefileError(f'not an IP address, file, or valid domain: "{text}"')
    return HostName(host, port, scheme, server_name)


def expand(entries: Iterable[Entry], lookup: Lookup) -> list[Target]:
    """The addresses of all entries, each once, in their order. Raises CorefileError."""
    found: dict[tuple[str, int], Target] = {}
    for entry in entries:
        for target in _expand_entry(entry, lookup):
            found.setdefault(target.place, target)
    if not found:
        raise CorefileError("no valid upstream addresses found")
    for target in found.values():
        if target.scheme not in ASKED_SCHEMES:
            raise CorefileError(f"'{target.scheme}' is not supported as a destination protocol in forward: {target}")
    if len(found) > MAX_UPSTREAMS:
        raise CorefileError(f"more than {MAX_UPSTREAMS} TOs configured: {len(found)}")
    return list(found.values())


def read_name_servers(text: str) -> list[Target]:
    """The name servers a resolv.conf lists; everything else in it is for clients."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            address = _as_address(words[1])
            if address is not None:
                found.append(Target(address, DEFAULT_PORTS["dns"]))
    return found


def _expand_entry(entry: Entry, lookup: Lookup) -> Sequence[Target]:
    if isinstance(entry, Target):
        return [entry]
    if isinstance(entry, ResolvConf):
        return read_name_servers(read_resolv_conf(entry.path))
    return [Target(address, entry.port, entry.scheme, entry.server_name) for address in lookup(entry.name)]


def read_resolv_conf(path: Path) -> str:
    """The file's text. Raises CorefileError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_RESOLV_CONF).decode("utf-8", "replace")
    except OSError as error:
        raise CorefileError(f'failed to open file "{path}": {error.strerror}') from error


def _split(text: str, default_port: int) -> tuple[str, int, str]:
    """Host, port and what stands behind a `%`: a TLS server name, or an interface."""
    port_text = str(default_port)
    if text.startswith("["):
        host, bracket, behind = text[1:].partition("]")
        if bracket and behind.startswith(":"):
            port_text = behind[1:]
    elif text.count(":") == 1 or ("%" in text and _has_port_behind_scope(text)):
        host, _, port_text = text.rpartition(":")
    else:
        host = text
    host, _, scope = host.partition("%")
    if not (port_text.isascii() and port_text.isdecimal()) or not 0 < int(port_text) <= MAX_PORT:
        # Not a port, so no `host:port` at all: a file may have a colon in its name.
        if _as_address(host) is not None:
            raise CorefileError(f"address {port_text}: invalid port")
        return text, default_port, ""
    return host, int(port_text), scope


def _has_port_behind_scope(text: str) -> bool:
    """Whether `ADDRESS%NAME` is followed by a port: `9.9.9.9%dns.quad9.net:853`."""
    return ":" in text.rpartition("%")[2]


def _with_scope(host: str, scope: str) -> str:
    return f"{host}%{scope}" if scope else host


def _as_address(text: str) -> str | None:
    """The canonical text of an IP address; a scope stays where the address means nothing without it."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id and not address.is_link_local:
        return str(address).partition("%")[0]
    return str(address)


def _is_name(text: str) -> bool:
    try:
        return names.from_text(text) != names.ROOT
    except FormatError:
        return False
