"""Failures as an API server words them: objects of kind Status."""

from __future__ import annotations

from typing import Any

INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You can start a new list without the continue parameter."
)
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """A request is answered with a Status."""

    def __init__(self, status: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status["message"])
        self.status = status
        self.headers = headers or {}

    @property
    def code(self) -> int:
        """The HTTP status."""
        return int(self.status["code"])


def failure(code: int, message: str, **fields: Any) -> dict[str, Any]:
    """A Status that says what failed; `fields` are added to it."""
    reason = _REASONS.get(code, "Unknown")
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**status, "message": message, "reason": reason, "code": code, **fields}


def too_old(wanted: int, oldest: int) -> dict[str, Any]:
    """What is asked for was compacted away."""
    return failure(410, f"too old resource version: {wanted} ({oldest})")


def too_large(wanted: int, current: int, has_cause: bool = True) -> dict[str, Any]:
    """A version is asked for that has not been reached; before 1.19 without a machine-readable cause."""
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details: dict[str, Any] = {"causes": [cause], "retryAfterSeconds": 1} if has_cause else {"retryAfterSeconds": 1}
    return failure(504, message, details=details)


def invalid(field: str, detail: str) -> Refused:
    """A parameter is not one, or not beside the others."""
    message = f'ListOptions.meta.k8s.io "" is invalid: {field}: Forbidden: {detail}'
    return Refused(failure(422, message))
