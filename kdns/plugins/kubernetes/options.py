"""The options of the `kubernetes` directive."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kdns import log
from kdns.cluster.access import ApiAccess
from kdns.cluster.selectors import Selector, SelectorError
from kdns.cluster.view import PodMode, View
from kdns.corefile import Dispenser, expand_zone, parse_duration
from kdns.dns import names
from kdns.errors import CorefileError
from kdns.plugins.kubernetes.cluster_zones import ClusterZones
from kdns.plugins.plugin import Setup

MAX_TTL = 3600  # seconds, as CoreDNS

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")

_LOG = log.plugin_logger("kubernetes")


@dataclass(slots=True)
class _Stanza:
    """What the lines of a directive have said so far."""

    directive: Dispenser
    view: View
    access: ApiAccess = field(default_factory=ApiAccess)
    fallthrough: tuple[bytes, ...] = ()

    def set(self, **options: object) -> None:
        self.view = replace(self.view, **options)  # type: ignore[arg-type]

    def reach(self, **options: object) -> None:
        self.access = replace(self.access, **options)  # type: ignore[arg-type]

    def arguments(self, least: int, most: int | None = None) -> list[str]:
        """The rest of the line, of so many words."""
        found = self.directive.remaining_args()
        if len(found) < least or (most is not None and len(found) > most):
            raise self.directive.arg_error()
        return found

    def no_arguments(self) -> None:
        self.arguments(0, 0)


def setup(setup: Setup) -> ClusterZones:
    """`kubernetes [ZONES...] { options }`, once per block."""
    directive = setup.directive
    stanza: _Stanza | None = None
    for _ in directive.only_occurrence():
        stanza = _parse(setup)
    assert stanza is not None
    surroundings = setup.surroundings
    if not surroundings.has_manifests:
        _check_in_cluster(stanza.access, surroundings.environ)
    needs = setup.block.cluster
    ttl = denial_ttl = stanza.view.ttl
    version_ttl = stanza.view.version_ttl
    clamp = setup.block.ttl_clamp
    if clamp is not None and clamp.covers(stanza.view.zones):
        ttl, denial_ttl, version_ttl = clamp.of_answer(ttl), clamp.of_denial(ttl), clamp.of_answer(version_ttl)
    view = replace(
        stanza.view,
        ttl=ttl,
        version_ttl=version_ttl,
        soa_minimum=None if ttl == stanza.view.ttl else stanza.view.ttl,
        clients=needs.clients and stanza.view.pods is PodMode.VERIFIED,
        transfers=any(names.longest_zone(zone, needs.transferred) for zone in stanza.view.zones),
        external=needs.external,
        local_addresses=surroundings.local_addresses,
    )
    index = surroundings.view_index(view, ApiAccess() if surroundings.has_manifests else stanza.access)
    return ClusterZones(view, index, stanza.fallthrough, surroundings.current_table, setup.block, denial_ttl)


def _parse(setup: Setup) -> _Stanza:
    directive = setup.directive
    given = directive.remaining_args()
    zones = tuple(zone for text in given for zone in _expand(directive, text)) or setup.zones
    if all(_is_reverse(zone) for zone in zones):
        raise CorefileError("non-reverse zone name must be used")
    stanza = _Stanza(directive, View(zones))
    while directive.next_block():
        parse = OPTIONS.get(directive.val)
        if parse is None:
            raise directive.unknown_property(OPTIONS)
        parse(stanza)
    view = stanza.view
    if view.namespaces and view.namespace_labels is not None:
        raise directive.error("namespaces and namespace_labels cannot both be set")
    for zone in view.multicluster:
        if zone not in zones:
            served = " ".join(map(names.to_text, zones))
            text = f"is not authoritative for the multicluster zone {names.to_text(zone)}"
            raise directive.error(f"{text} (authoritative zones: [{served}])")
    if view.zonal and view.noendpoints:
        raise directive.error("zonal requires the endpoint cache; remove noendpoints")
    return stanza


def _check_in_cluster(access: ApiAccess, environ: dict[str, str]) -> None:
    if access.endpoint or access.kubeconfig or environ.get("KUBECONFIG"):
        return
    if not environ.get("KUBERNETES_SERVICE_HOST") or not environ.get("KUBERNETES_SERVICE_PORT"):
        raise CorefileError(
            "unable to load in-cluster configuration, "
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )


def _expand(directive: Dispenser, text: str) -> list[bytes]:
    try:
        return expand_zone(text)
    except CorefileError as error:
        raise directive.error(str(error)) from error


def _is_reverse(zone: bytes) -> bool:
    return names.is_below(zone, names.IN_ADDR_ARPA) or names.is_below(zone, names.IP6_ARPA)


def _endpoint(stanza: _Stanza) -> None:
    urls = stanza.arguments(1)
    stanza.reach(endpoint=urls[0])
    if len(urls) > 1:
        _LOG.warning(
            "Multiple endpoints have been deprecated, only the first specified endpoint '%s' is used", urls[0]
        )  # fmt: skip


def _tls(stanza: _Stanza) -> None:
    stanza.reach(tls=tuple(stanza.arguments(3, 3)))


def _kubeconfig(stanza: _Stanza) -> None:
    words = stanza.arguments(1, 2)
    stanza.reach(kubeconfig=words[0], context="".join(words[1:]))


def _limit(kind: type[int | float]) -> Callable[[_Stanza], float]:
    """A parser of one number that is not negative."""

    def parse(stanza: _Stanza) -> float:
        option = stanza.directive.val
        (text,) = stanza.arguments(1, 1)
        # Python takes more for a number than Go does: blanks, underscores, digits of other scripts.
        function, pattern = ("Atoi", _INTEGER) if kind is int else ("ParseFloat", _FLOAT)
        if not pattern.fullmatch(text):
            reason = f'strconv.{function}: parsing "{text}": invalid syntax'
            raise stanza.directive.error(f'invalid {option} "{text}": {reason}')
        value = kind(text)
        if value < 0:
            raise stanza.directive.error(f"{option} must be >= 0")
        return value

    return parse


def _qps(stanza: _Stanza) -> None:
    stanza.reach(qps=_limit(float)(stanza))


def _burst(stanza: _Stanza) -> None:
    stanza.reach(burst=int(_limit(int)(stanza)))


def _max_inflight(stanza: _Stanza) -> None:
    stanza.reach(max_inflight=int(_limit(int)(stanza)))


def _startup_timeout(stanza: _Stanza) -> None:
    text = stanza.arguments(1)[0]
    try:
        stanza.reach(startup_timeout_seconds=parse_duration(text))
    except CorefileError as error:
        raise CorefileError(f"failed to parse startup_timeout: {text}, {error}") from error


def _namespaces(stanza: _Stanza) -> None:
    stanza.set(namespaces=stanza.view.namespaces | set(stanza.arguments(1)))


def _selector(stanza: _Stanza, what: str) -> Selector:
    text = " ".join(stanza.arguments(1))
    try:
        return Selector.parse(text)
    except SelectorError as error:
        raise CorefileError(f"unable to parse {what} selector value: '{text}': {error}") from error


def _labels(stanza: _Stanza) -> None:
    stanza.set(labels=_selector(stanza, "label"))


def _namespace_labels(stanza: _Stanza) -> None:
    stanza.set(namespace_labels=_selector(stanza, "namespace_label"))


def _pods(stanza: _Stanza) -> None:
    (text,) = stanza.arguments(1, 1)
    try:
        stanza.set(pods=PodMode(text))
    except ValueError as error:
        raise CorefileError(
            f"wrong value for pods: {text},  must be one of: disabled, verified, insecure"
        ) from error  # fmt: skip


def _endpoint_pod_names(stanza: _Stanza) -> None:
    stanza.no_arguments()
    stanza.set(endpoint_pod_names=True)


def _ttl(stanza: _Stanza) -> None:
    text = stanza.arguments(1)[0]
    if not _INTEGER.fullmatch(text):
        raise CorefileError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    ttl = int(text)
    if not 0 <= ttl <= MAX_TTL:
        raise stanza.directive.error(f"ttl must be in range [0, {MAX_TTL}]: {ttl}")
    stanza.set(ttl=ttl)


def _noendpoints(stanza: _Stanza) -> None:
    stanza.no_arguments()
    stanza.set(noendpoints=True)


def _fallthrough(stanza: _Stanza) -> None:
    zones = tuple(zone for text in stanza.arguments(0) for zone in _expand(stanza.directive, text))
    stanza.fallthrough = zones or (names.ROOT,)


def _ignore(stanza: _Stanza) -> None:
    for word in stanza.arguments(0)[:1]:
        if word != "empty_service":
            raise CorefileError(f"unable to parse ignore value: '{word}'")
        stanza.set(ignore_empty_service=True)


def _multicluster(stanza: _Stanza) -> None:
    stanza.set(multicluster=tuple(zone for text in stanza.arguments(0) for zone in _expand(stanza.directive, text)))


def _zonal(stanza: _Stanza) -> None:
    stanza.no_arguments()
    stanza.set(zonal=True)


OPTIONS: dict[str, Callable[[_Stanza], None]] = {
    "endpoint": _endpoint,
    "tls": _tls,
    "kubeconfig": _kubeconfig,
    "apiserver_qps": _qps,
    "apiserver_burst": _burst,
    "apiserver_max_inflight": _max_inflight,
    "startup_timeout": _startup_timeout,
    "namespaces": _namespaces,
    "labels": _labels,
    "namespace_labels": _namespace_labels,
    "pods": _pods,
    "endpoint_pod_names": _endpoint_pod_names,
    "ttl": _ttl,
    "noendpoints": _noendpoints,
    "fallthrough": _fallthrough,
    "ignore": _ignore,
    "multicluster": _multicluster,
    "zonal": _zonal,
}
