"""What can go wrong between kdns and an API server, told apart by what a follower does about it."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import timezone
from enum import Enum

import msgspec

from kdns.errors import ClusterError

MAX_RETRY_AFTER_SECONDS = 60.0  # what a server may ask for at most, whatever it says
MAX_QUOTED = 200  # characters of a server's own words in a message of ours

# What old servers and damaged replies say where a code or a reason should stand.
_GONE_TEXTS = ("too old resource version", "resource version is too old", "resourceVersion is too old")
_TOO_LARGE_TEXT = "Too large resource version"
_TOO_LARGE_CAUSE = "ResourceVersionTooLarge"


class ErrorKind(Enum):
    """Kinds of failure; the value is the label metrics use."""

    UNREACHABLE = "unreachable"  # no connection, or one that broke
    TLS = "tls"  # a certificate that does not verify, a handshake that fails
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # answered, but not as an API server answers
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    INVALID = "invalid"  # a parameter the server does not take
    GONE = "gone"  # the version, or the continue token, is too old
    VERSION_TOO_LARGE = "version_too_large"  # the server does not know the version yet
    THROTTLED = "throttled"
    SERVER = "server"  # 5xx
    SHORT_WATCH = "short_watch"  # ended at once, without anything new
    REGRESSED = "regressed"  # the server's history is not the one that was followed
    DOUBTED = "doubted"  # a list that another one has to confirm

    @property
    def is_outage(self) -> bool:
        """Whether the server as a whole does not work, as opposed to one request being refused."""
        return self in _OUTAGES

    @property
    def is_refusal(self) -> bool:
        """Whether the server works and does not hand the resource out."""
        return self in (ErrorKind.UNAUTHORIZED, ErrorKind.FORBIDDEN, ErrorKind.NOT_FOUND)


_OUTAGES = frozenset(
    {
        ErrorKind.UNREACHABLE,
        ErrorKind.TLS,
        ErrorKind.TIMEOUT,
        ErrorKind.PROTOCOL,
        ErrorKind.THROTTLED,
        ErrorKind.SERVER,
    }
)


class ApiError(ClusterError):
    """A request to the API server failed. `retry_after_seconds` is what the server asked for, where it did."""

    def __init__(self, kind: ErrorKind, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds


class _Cause(msgspec.Struct, gc=False):
    reason: object = None


class _Details(msgspec.Struct, gc=False, rename="camel"):
    causes: list[_Cause | None] | None = None
    retry_after_seconds: object = None


class _Status(msgspec.Struct, gc=False):
    """The parts of a `Status` object that say what happened."""

    code: object = None
    reason: object = None
    message: object = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def error_of_reply(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error a reply other than 200 stands for; names of `headers` are in lower case."""
    found = _read_status(body)
    retry_after = retry_after_seconds(headers.get("retry-after", ""), headers.get("date", ""))
    if retry_after is None and found.details is not None:
        retry_after = retry_after_seconds(str(found.details.retry_after_seconds), "")
    text = _text(found.message) or _first_line(body)
    return ApiError(_kind(status, found), f"HTTP {status}: {text}" if text else f"HTTP {status}", retry_after)


def error_of_event(status: bytes) -> ApiError:
    """The error an ERROR event stands for; without a usable code and reason it tells that the watch is of no use."""
    found = _read_status(status)
    code = found.code if isinstance(found.code, int) and not isinstance(found.code, bool) else 0
    kind = _kind(code, found)
    if code < 400 and kind is ErrorKind.PROTOCOL:
        kind = ErrorKind.GONE
    text = _text(found.message) or "without a message"
    return ApiError(
        kind, f"the watch ended with error {code}: {text}" if code else f"the watch ended with error {text}"
    )


def retry_after_seconds(text: str, now: str) -> float | None:
    """What Retry-After asks for, seconds or an HTTP date (`now` is the reply's own); None where it says nothing."""
    text = text.strip()
    if text.removeprefix("-").isdecimal() and text.isascii():
        return min(max(float(text[:20]), 0.0), MAX_RETRY_AFTER_SECONDS)
    try:
        until, since = email.utils.parsedate_to_datetime(text), email.utils.parsedate_to_datetime(now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # A date without a zone is taken for UTC, which is all HTTP knows.
    seconds = (until.replace(tzinfo=timezone.utc) - since.replace(tzinfo=timezone.utc)).total_seconds()  # noqa: UP017
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _read_status(body: bytes) -> _Status:
    try:
        return _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Status()


def _kind(code: int, status: _Status) -> ErrorKind:
    causes = status.details.causes if status.details is not None else None
    message = _text(status.message)
    if any(cause is not None and cause.reason == _TOO_LARGE_CAUSE for cause in causes or ()):
        return ErrorKind.VERSION_TOO_LARGE
    if _TOO_LARGE_TEXT in message:
        return ErrorKind.VERSION_TOO_LARGE
    if code == 410 or status.reason in ("Expired", "Gone") or any(text in message for text in _GONE_TEXTS):
        return ErrorKind.GONE
    if code in _KINDS:
        return _KINDS[code]
    if 500 <= code <= 599:
        return ErrorKind.SERVER
    return ErrorKind.INVALID if 400 <= code <= 499 else ErrorKind.PROTOCOL


_KINDS = {
    401: ErrorKind.UNAUTHORIZED,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.SERVER,
    429: ErrorKind.THROTTLED,
}


def _text(value: object) -> str:
    return value[:MAX_QUOTED] if isinstance(value, str) else ""


def _first_line(body: bytes) -> str:
    text = body[:MAX_QUOTED].decode("ascii", "replace").strip()
    return text.splitlines()[0] if text else ""
