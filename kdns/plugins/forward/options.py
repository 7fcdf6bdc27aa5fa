"""What a Corefile says about one `forward`, and the errors it can hold."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kdns import log
from kdns.corefile import Dispenser, expand_zone, format_duration, parse_duration
from kdns.dns import names
from kdns.dns.codes import Rcode, rcode_number
from kdns.errors import CorefileError, FormatError
from kdns.plugins.forward.addresses import Entry, parse_entry
from kdns.plugins.forward.policy import POLICIES
from kdns.plugins.go_numbers import parse_uint, quoted

MAX_INT64 = (1 << 63) - 1
MAX_DIGITS = 19  # of such a number

_INTEGER = re.compile("[+-]?[0-9]+")

_LOG = log.plugin_logger("forward")


@dataclass(slots=True)
class Options:
    """One occurrence of the directive."""

    zone: bytes  # FROM
    entries: list[Entry]
    excepted: tuple[bytes, ...] = ()
    policy: str = "random"
    force_tcp: bool = False
    prefer_udp: bool = False
    max_fails: int = 2
    check_seconds: float = 0.5
    check_recursion: bool = True
    check_domain: bytes = names.ROOT
    max_connect_attempts: int | None = None  # None: twice as many as there are upstreams; 0: no limit
    expire_seconds: float = 10.0
    max_age_seconds: float = 0.0
    max_idle_conns: int = 0
    read_timeout_seconds: float = 2.0
    max_concurrent: int = 0
    max_concurrent_text: str = ""  # as the Corefile spells it: the error repeats it
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    failover_rcodes: frozenset[int] = frozenset()
    fails_fast: bool = False
    tls: ssl.SSLContext | None = None
    tls_servername: str = ""
    source: str | None = None
    resolvers: list[str] = field(default_factory=list)
    doh_method: str = "POST"
    tls_files: list[str] = field(default_factory=list)


def parse_options(directive: Dispenser, folder: str) -> Options:
    """The occurrence the dispenser stands at. Raises CorefileError."""
    if not directive.next_arg():
        raise directive.arg_error()
    zone = _parse_from(directive.val)
    texts = directive.remaining_args()
    if not texts:
        raise directive.arg_error()
    options = Options(zone, [parse_entry(text) for text in texts])
    for name in directive.block():
        parse = _PARSERS.get(name)
        if parse is None:
            raise directive.unknown_property(_PARSERS)
        parse(directive, options, folder)
    if 0 < options.max_age_seconds < options.expire_seconds:
        age, expire = format_duration(options.max_age_seconds), format_duration(options.expire_seconds)
        raise CorefileError(f"max_age ({age}) must not be less than expire ({expire})")
    return options


def _parse_from(text: str) -> bytes:
    try:
        zones = expand_zone(text)
    except CorefileError as error:
        raise CorefileError(f"unable to normalize '{text}'") from error
    if len(zones) > 1:
        first = names.to_text(zones[0])
        _LOG.warning(
            "Unsupported CIDR notation: '%s' expands to multiple zones. Using only '%s'.", text, first
        )  # fmt: skip
    return zones[0]


# Arguments


def _one(directive: Dispenser) -> str:
    """The next argument. More of them are left alone, as CoreDNS leaves them."""
    if not directive.next_arg():
        raise directive.arg_error()
    return directive.val


def _none(directive: Dispenser) -> None:
    if directive.next_arg():
        raise directive.arg_error()


def _some(directive: Dispenser) -> list[str]:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    return arguments


def _unsigned(directive: Dispenser) -> int:
    try:
        return parse_uint(_one(directive), 10, 32)
    except ValueError as error:
        raise CorefileError(str(error)) from error


def _count(directive: Dispenser, option: str) -> int:
    """A number that is not negative; errors are those of Go's strconv."""
    text = _one(directive)
    if not _INTEGER.fullmatch(text):
        raise CorefileError(f"strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    digits = text.lstrip("+-0")
    if len(digits) > MAX_DIGITS or int(digits or "0") > MAX_INT64:
        raise CorefileError(f"strconv.Atoi: parsing {quoted(text)}: value out of range")
    number = int(text)
    if number < 0:
        raise CorefileError(f"{option} can't be negative: {number}")
    return number


def _duration(directive: Dispenser, option: str) -> float:
    seconds = parse_duration(_one(directive))
    if seconds < 0:
        # CoreDNS prints this one as a number of nanoseconds.
        shown = str(round(seconds * 1e9)) if option == "health_check" else format_duration(seconds)
        raise CorefileError(f"{option} can't be negative: {shown}")
    return seconds


def _rcodes(directive: Dispenser) -> frozenset[int]:
    found = set()
    for text in _some(directive):
        rcode = rcode_number(text.upper())
        if rcode is None:
            raise CorefileError(f"{text} is not a valid rcode")
        found.add(rcode)
    return frozenset(found)


# Options


def _parse_except(directive: Dispenser, options: Options, folder: str) -> None:
    zones: list[bytes] = []
    for text in _some(directive):
        try:
            zones += expand_zone(text)
        except CorefileError as error:
            raise CorefileError(f"unable to normalize '{text}'") from error
    options.excepted += tuple(zones)


def _parse_policy(directive: Dispenser, options: Options, folder: str) -> None:
    options.policy = _one(directive)
    if options.policy not in POLICIES:
        raise directive.error(f"unknown policy '{options.policy}'")


def _parse_force_tcp(directive: Dispenser, options: Options, folder: str) -> None:
    _none(directive)
    options.force_tcp = True


def _parse_prefer_udp(directive: Dispenser, options: Options, folder: str) -> None:
    _none(directive)
    options.prefer_udp = True


def _parse_max_fails(directive: Dispenser, options: Options, folder: str) -> None:
    options.max_fails = _unsigned(directive)


def _parse_health_check(directive: Dispenser, options: Options, folder: str) -> None:
    options.check_seconds = _duration(directive, "health_check")
    while directive.next_arg():
        match directive.val:
            case "no_rec":
                options.check_recursion = False
            case "domain":
                text = _one(directive)
                try:
                    options.check_domain = names.from_text(text)
                except FormatError as error:
                    raise CorefileError(f"health_check: invalid domain name {text}") from error
            case other:
                raise CorefileError(f"health_check: unknown option {other}")


def _parse_max_connect_attempts(directive: Dispenser, options: Options, folder: str) -> None:
    options.max_connect_attempts = _unsigned(directive)


def _parse_expire(directive: Dispenser, options: Options, folder: str) -> None:
    options.expire_seconds = _duration(directive, "expire")


def _parse_max_age(directive: Dispenser, options: Options, folder: str) -> None:
    options.max_age_seconds = _duration(directive, "max_age")


def _parse_max_idle_conns(directive: Dispenser, options: Options, folder: str) -> None:
    options.max_idle_conns = _count(directive, "max_idle_conns")


def _parse_read_timeout(directive: Dispenser, options: Options, folder: str) -> None:
    text = _one(directive)
    options.read_timeout_seconds = parse_duration(text)
    if options.read_timeout_seconds <= 0:
        raise CorefileError(f"read_timeout must be positive: {text}")


def _parse_max_concurrent(directive: Dispenser, options: Options, folder: str) -> None:
    options.max_concurrent = _count(directive, "max_concurrent")
    options.max_concurrent_text = directive.val


def _parse_next(directive: Dispenser, options: Options, folder: str) -> None:
    options.next_rcodes |= _rcodes(directive)


def _parse_next_on_nodata(directive: Dispenser, options: Options, folder: str) -> None:
    _none(directive)
    options.next_on_nodata = True


def _parse_failover(directive: Dispenser, options: Options, folder: str) -> None:
    rcodes = _rcodes(directive)
    if Rcode.NOERROR in rcodes:
        raise CorefileError("NoError cannot be used in failover")
    options.failover_rcodes |= rcodes


def _parse_failfast(directive: Dispenser, options: Options, folder: str) -> None:
    _none(directive)
    options.fails_fast = True


def _parse_tls(directive: Dispenser, options: Options, folder: str) -> None:
    """`tls [CA]`, `tls CERT KEY` or `tls CERT KEY CA`."""
    arguments = directive.remaining_args()
    if len(arguments) > 3:
        raise directive.arg_error()
    files = [str(Path(folder, argument)) for argument in arguments]
    options.tls, options.tls_files = tls_context(files), files


def _parse_tls_servername(directive: Dispenser, options: Options, folder: str) -> None:
    options.tls_servername = _one(directive)


def _parse_source_address(directive: Dispenser, options: Options, folder: str) -> None:
    text = _one(directive)
    if names.pack_address(text) is None:
        raise CorefileError(f"source_address: invalid IP address: {text}")
    options.source = text


def _parse_resolver(directive: Dispenser, options: Options, folder: str) -> None:
    options.resolvers += _some(directive)


def _parse_doh_method(directive: Dispenser, options: Options, folder: str) -> None:
    if not directive.next_arg():
        raise directive.arg_error()
    if directive.val not in ("POST", "GET"):
        raise CorefileError("doh_method must be either POST or GET")
    options.doh_method = directive.val


_PARSERS: dict[str, Callable[[Dispenser, Options, str], None]] = {
    "except": _parse_except,
    "policy": _parse_policy,
    "force_tcp": _parse_force_tcp,
    "prefer_udp": _parse_prefer_udp,
    "max_fails": _parse_max_fails,
    "health_check": _parse_health_check,
    "max_connect_attempts": _parse_max_connect_attempts,
    "expire": _parse_expire,
    "max_age": _parse_max_age,
    "max_idle_conns": _parse_max_idle_conns,
    "read_timeout": _parse_read_timeout,
    "max_concurrent": _parse_max_concurrent,
    "next": _parse_next,
    "next_on_nodata": _parse_next_on_nodata,
    "failover": _parse_failover,
    "failfast_all_unhealthy_upstreams": _parse_failfast,
    "tls": _parse_tls,
    "tls_servername": _parse_tls_servername,
    "source_address": _parse_source_address,
    "resolver": _parse_resolver,
    "doh_method": _parse_doh_method,
}


def tls_context(files: list[str]) -> ssl.SSLContext:
    """A TLS client's settings, of one (CA), two (certificate, key) or three files. Raises CorefileError."""
    authority = files[0] if len(files) == 1 else files[2] if len(files) == 3 else None
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise CorefileError(f"error reading CA from {authority}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if len(files) >= 2:
        try:
            context.load_cert_chain(files[0], files[1])
        except (OSError, ValueError) as error:
            raise CorefileError(f"could not load TLS cert: {error}") from error
    return context


def check_server_name(name: str) -> None:
    """Raise CorefileError where no TLS server can be called so."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (ValueError, TypeError) as error:
        raise CorefileError(f"tls_servername: {name!r} cannot be the name of a server: {error}") from error
