"""What a `cache` directive says."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdns.corefile import Dispenser, expand_zone, parse_duration
from kdns.dns import names
from kdns.errors import CorefileError, FormatError
from kdns.plugins.go_numbers import quoted

DEFAULT_CAPACITY = 9984  # entries, as CoreDNS: 256 shards of 39
MIN_CAPACITY = 1024  # entries: CoreDNS keeps no fewer, whatever is asked for
MAX_POSITIVE_TTL, MAX_NEGATIVE_TTL = 3600, 1800  # seconds
MIN_TTL = 5  # seconds
MAX_TTL = (1 << 31) - 1  # seconds (RFC 2181, 8)
DEFAULT_SERVFAIL = 5.0  # seconds
MAX_SERVFAIL = 300.0  # seconds (RFC 2308, 7)
DEFAULT_STALE = 3600.0  # seconds
DEFAULT_PREFETCH_GAP, DEFAULT_PREFETCH_PERCENT = 60.0, 10
MIN_PERCENT, MAX_PERCENT = 10, 90
MAX_INT = (1 << 63) - 1  # what Go's Atoi reads
OPTIONS = ("success", "denial", "prefetch", "serve_stale", "serve_stale_policy", "servfail", "disable", "keepttl")


@dataclass(slots=True)
class Side:
    """What holds for answers, or for denials."""

    max_ttl: int  # seconds
    min_ttl: int = MIN_TTL  # seconds; lower TTLs are raised
    capacity: int = DEFAULT_CAPACITY  # entries; what the size of the cache is derived from
    disabled: tuple[bytes, ...] = ()  # zones whose names are not kept

    def clamp(self, ttl: int) -> int:
        """A TTL between the least and the greatest; the greatest wins."""
        return min(max(ttl, self.min_ttl), self.max_ttl)

    def keeps(self, qname: bytes) -> bool:
        """Whether replies about a name may be kept."""
        return not any(names.is_below(qname, zone) for zone in self.disabled)


@dataclass(slots=True)
class Prefetch:
    """When an entry is renewed before it expires."""

    uses: int = 0  # from so many on; 0: never
    gap_seconds: float = DEFAULT_PREFETCH_GAP  # a longer pause starts the count anew
    percent: int = DEFAULT_PREFETCH_PERCENT  # of its TTL an entry has left at most

    def threshold(self, ttl: int) -> int:
        """The seconds an entry of this TTL has left when it is renewed."""
        return -(-self.percent * ttl // 100)


@dataclass(slots=True)
class Stale:
    """What becomes of entries that have expired."""

    seconds: float = 0.0  # for which they are served; 0: not at all
    verify: bool = False  # the servers behind are asked first
    timeout_seconds: float = 0.0  # for so long; 0: as long as they take
    ttl: int = 0  # seconds, of what is served
    recheck_seconds: float = 0.0  # after a failure nobody is asked again for so long
    prefer_positive: bool = False  # an answer is served rather than a denial


@dataclass(slots=True)
class Options:
    """A whole directive."""

    zones: tuple[bytes, ...]
    success: Side = field(default_factory=lambda: Side(MAX_POSITIVE_TTL))
    denial: Side = field(default_factory=lambda: Side(MAX_NEGATIVE_TTL))
    servfail_seconds: float = DEFAULT_SERVFAIL
    prefetch: Prefetch = field(default_factory=Prefetch)
    stale: Stale = field(default_factory=Stale)
    keeps_ttl: bool = False


def parse(directive: Dispenser, zones: tuple[bytes, ...]) -> Options:
    """`cache [TTL] [ZONES...] { options }`, once per block. Raises CorefileError."""
    options: Options | None = None
    for _ in directive.only_occurrence():
        options = _parse_one(directive, zones)
    assert options is not None
    return options


def _parse_one(directive: Dispenser, zones: tuple[bytes, ...]) -> Options:
    arguments = directive.remaining_args()
    options = Options(zones)
    if arguments:
        try:
            ttl = _parse_int(arguments[0])
        except CorefileError:
            pass  # no number: a zone
        else:
            options.success.max_ttl = options.denial.max_ttl = _positive_ttl(ttl)
            arguments = arguments[1:]
    if arguments:
        options.zones = tuple(zone for text in arguments for zone in expand_zone(text))
    has_policy = False
    while directive.next_block():
        match directive.val:
            case "success":
                _parse_side(directive, options.success)
            case "denial":
                _parse_side(directive, options.denial)
            case "prefetch":
                options.prefetch = _parse_prefetch(directive)
            case "serve_stale":
                prefers = options.stale.prefer_positive
                options.stale = _parse_stale(directive)
                options.stale.prefer_positive = prefers
            case "serve_stale_policy":
                _parse_policy(directive)
                options.stale.prefer_positive = has_policy = True
            case "servfail":
                options.servfail_seconds = _parse_servfail(directive)
            case "disable":
                _parse_disable(directive, options)
            case "keepttl":
                if directive.remaining_args():
                    raise directive.arg_error()
                options.keeps_ttl = True
            case _:
                raise directive.arg_error()
    if has_policy and not options.stale.seconds:
        raise CorefileError("serve_stale_policy requires serve_stale")
    return options


def _parse_side(directive: Dispenser, side: Side) -> None:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    side.capacity = _parse_int(arguments[0])
    if len(arguments) > 1:
        side.max_ttl = _positive_ttl(_parse_int(arguments[1]))
    if len(arguments) > 2:
        least = _parse_int(arguments[2])
        if least < 0:
            raise CorefileError(f"cache min TTL can not be negative: {least}")
        side.min_ttl = min(least, MAX_TTL)


def _parse_prefetch(directive: Dispenser) -> Prefetch:
    arguments = directive.remaining_args()
    if not 1 <= len(arguments) <= 3:
        raise directive.arg_error()
    prefetch = Prefetch(_parse_int(arguments[0]))
    if prefetch.uses < 0:
        raise CorefileError(f"prefetch amount should be positive: {prefetch.uses}")
    if len(arguments) > 1:
        prefetch.gap_seconds = parse_duration(arguments[1])
    if len(arguments) > 2:
        last = arguments[2][-1:]
        if last != "%":
            raise CorefileError(f"last character of percentage should be `%`, but is: '{last}'")
        prefetch.percent = _parse_int(arguments[2][:-1])
        if not MIN_PERCENT <= prefetch.percent <= MAX_PERCENT:
            raise CorefileError(f"percentage should fall in range [{MIN_PERCENT}, {MAX_PERCENT}]: {prefetch.percent}")
    return prefetch


def _parse_stale(directive: Dispenser) -> Stale:
    """`serve_stale [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]]`."""
    arguments = directive.remaining_args()
    stale = Stale(DEFAULT_STALE)
    if arguments:
        stale.seconds = _parse_stale_duration(arguments.pop(0), "duration")
    if arguments:
        mode = arguments.pop(0).lower()
        if mode not in ("immediate", "verify"):
            raise CorefileError(f"invalid value for serve_stale refresh mode: {mode}")
        stale.verify = mode == "verify"
    if stale.verify and arguments:
        stale.timeout_seconds = _parse_stale_duration(arguments.pop(0), "verify timeout")
    if arguments:
        stale.ttl = min(int(_parse_stale_duration(arguments.pop(0), "TTL")), MAX_TTL)
    if arguments:
        stale.recheck_seconds = _parse_stale_duration(arguments.pop(0), "recheck interval")
    if arguments:
        raise directive.arg_error()
    return stale


def _parse_stale_duration(text: str, what: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise CorefileError(f"invalid negative {what} for serve_stale")
    return seconds


def _parse_policy(directive: Dispenser) -> None:
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.arg_error()
    if arguments[0].lower() != "prefer_positive":
        raise CorefileError(f"invalid value for serve_stale_policy: {arguments[0]}")


def _parse_servfail(directive: Dispenser) -> float:
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.arg_error()
    seconds = parse_duration(arguments[0])
    if seconds < 0:
        raise CorefileError("invalid negative ttl for servfail")
    if seconds > MAX_SERVFAIL:
        raise CorefileError("caching SERVFAIL responses over 5 minutes is not permitted")
    return seconds


def _parse_disable(directive: Dispenser, options: Options) -> None:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    zones = [names.ROOT]
    if arguments[1:]:
        zones = []
        for text in arguments[1:]:
            try:
                zones.append(names.from_text(text))
            except FormatError as error:
                raise CorefileError(f"invalid disabled zone: {text}") from error
    match arguments[0]:
        case "success":
            options.success.disabled = tuple(zones)
        case "denial":
            options.denial.disabled = tuple(zones)
        case _:
            raise CorefileError('cache type for disable must be "success" or "denial"')


def _positive_ttl(ttl: int) -> int:
    if ttl <= 0:
        raise CorefileError(f"cache TTL can not be zero or negative: {ttl}")
    return min(ttl, MAX_TTL)


def _parse_int(text: str) -> int:
    """A whole number as Go's Atoi reads it. Raises CorefileError in its words."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdecimal():
        raise CorefileError(f"strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    value = int(text) if len(digits) < 20 else MAX_INT + 1
    if not -MAX_INT - 1 <= value <= MAX_INT:
        raise CorefileError(f"strconv.Atoi: parsing {quoted(text)}: value out of range")
    return value
