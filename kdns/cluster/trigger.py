"""When what led to an EndpointSlice happened, as its controller notes it in an annotation."""

from __future__ import annotations

from datetime import datetime

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_TIME = 40  # characters of a time in quotation marks: 37 as Go's RFC3339Nano writes it, and some to spare

# Quotation marks inside of a string are escaped: this is found as a key and nowhere else.
_KEY = f'"{ANNOTATION}":'.encode()


def trigger_time(text: bytes) -> float | None:
    """The time in Unix seconds, from the JSON of a slice; None where there is none.

    Decoding all annotations of all slices for it would cost more than all the rest that is decoded.
    """
    start = text.find(_KEY)
    if start < 0:
        return None
    value = text[start + len(_KEY) : start + len(_KEY) + MAX_TIME].lstrip()
    if not value.startswith(b'"'):
        return None
    try:
        found = datetime.fromisoformat(value[1:].partition(b'"')[0].decode("ascii"))
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None
