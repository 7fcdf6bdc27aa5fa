"""One request to the API, taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.apiserver.damages import damaged
from tests.fakes.apiserver.faults import Faults
from tests.fakes.apiserver.resources import Resource, Target
from tests.fakes.apiserver.selectors import make_filter
from tests.fakes.apiserver.statuses import invalid
from tests.fakes.apiserver.storage import Version, merge

_META = ("meta.k8s.io", "v1")
_EXACT, _NOT_OLDER_THAN = "Exact", "NotOlderThan"


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for. `resource_version` is "" where it is not given."""

    verb: str  # get, list or watch
    target: Target
    query: Mapping[str, str]
    metadata_only: bool
    selects: Callable[[Any], bool]

    @property
    def resource(self) -> Resource:
        """The resource asked for."""
        return self.target.resource

    @property
    def kind(self) -> str:
        """The kind of the objects asked for."""
        return self.target.resource.kind

    @property
    def resource_version(self) -> str:
        """The parameter of that name."""
        return self.query.get("resourceVersion", "")

    def number(self, name: str) -> int:
        """A numeric parameter; 0 where it is not given."""
        text = self.query.get(name) or "0"
        if not text.isdecimal():
            raise invalid(name, f"{text!r} is not a number")
        return int(text)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false."""
        return self.query.get(name, "") in ("true", "1")


def verb_of(target: Target, query: Mapping[str, str]) -> str:
    """What RBAC calls a request."""
    if target.name:
        return "get"
    return "watch" if query.get("watch", "") in ("true", "1") else "list"


def parse_call(target: Target, request: web.BaseRequest) -> Call:
    """Take a request apart. Raises Refused where its parameters do not go together."""
    query = dict(request.query)
    verb = verb_of(target, query)
    if verb != "get":
        _check_versions(verb, query)
    wanted = make_filter(
        target.resource.kind, target.namespace, query.get("labelSelector", ""), query.get("fieldSelector", "")
    )
    return Call(verb, target, query, _wants_metadata(request.headers.get("Accept", ""), verb), wanted)


def _check_versions(verb: str, query: Mapping[str, str]) -> None:
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    initial = query.get("sendInitialEvents", "")
    if version and not version.isdecimal():
        raise invalid("resourceVersion", f"{version!r} is not a number")
    if match not in ("", _EXACT, _NOT_OLDER_THAN):
        raise invalid("resourceVersionMatch", f"{match!r} is neither {_EXACT} nor {_NOT_OLDER_THAN}")
    if verb == "watch":
        if initial and match != _NOT_OLDER_THAN:
            raise invalid("resourceVersionMatch", f"sendInitialEvents requires {_NOT_OLDER_THAN}")
        if match and not initial:
            raise invalid("resourceVersionMatch", "forbidden for watch unless sendInitialEvents is provided")
        return
    if initial:
        raise invalid("sendInitialEvents", "forbidden for list")
    if match and (not version or query.get("continue")):
        raise invalid("resourceVersionMatch", "needs resourceVersion, and no continue")
    if match == _EXACT and version == "0":
        raise invalid("resourceVersionMatch", 'Exact is forbidden for resourceVersion "0"')


def _wants_metadata(accept: str, verb: str) -> bool:
    """Whether the first media type served is that of metadata only."""
    for media in accept.split(","):
        kind, *parameters = (part.strip() for part in media.split(";"))
        found = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if kind not in ("application/json", "application/*", "*/*"):
            continue
        if "as" not in found:
            return False
        wanted = "PartialObjectMetadataList" if verb == "list" else "PartialObjectMetadata"
        if (found["as"], found.get("g"), found.get("v")) == (wanted, *_META):
            return True
    return False


def body_of(version: Version, call: Call, faults: Faults) -> bytes:
    """The JSON of an object without its opening brace, kind and version, as this request is sent it."""
    raw = version.raw
    if raw is not None:
        malformed = faults.find("malformed", call.kind)
        if malformed and malformed.parameters["name"] in ("", version.key.name):
            faults.meet(malformed)
            return msgspec.json.encode(damaged(_bare(raw), malformed.parameters["damage"]))[1:]
        huge = faults.find("huge", call.kind)
        if huge and huge.parameters["name"] in ("", version.key.name):
            faults.meet(huge)
            padding = {"metadata": {"annotations": {"padding": "x" * huge.parameters["octets"]}}}
            return msgspec.json.encode(merge(_bare(raw), padding))[1:]
    if call.metadata_only:
        return msgspec.json.encode({"metadata": msgspec.json.decode(b"{" + version.text).get("metadata")})[1:]
    return version.text


def typed(body: bytes, call: Call) -> bytes:
    """An object as it stands on its own."""
    kind, version = ("PartialObjectMetadata", "/".join(_META)) if call.metadata_only else _type_of(call)
    return b'{"kind":"%s","apiVersion":"%s",%s' % (kind.encode(), version.encode(), body)


def list_of(bodies: list[bytes], metadata: Mapping[str, Any], call: Call) -> bytes:
    """A list; its items do not repeat what kind they are."""
    kind, version = ("PartialObjectMetadata", "/".join(_META)) if call.metadata_only else _type_of(call)
    items = b",".join([b"{" + body for body in bodies])
    head = (kind.encode(), version.encode(), msgspec.json.encode(metadata))
    return b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[' % head + items + b"]}"


def _type_of(call: Call) -> tuple[str, str]:
    return call.resource.kind, call.resource.api_version


def _bare(raw: Any) -> dict[str, Any]:
    return {field: value for field, value in raw.items() if field not in ("kind", "apiVersion")}
