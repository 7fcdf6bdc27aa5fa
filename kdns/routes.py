"""What the compiled path needs to know of a listener: which names the table, the cache or `forward` decide there.

A route says what becomes of the names below a suffix. A chain's plugins say what of that they leave as it is, and
everything else is left to the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from kdns.blocks import Block
from kdns.dns import names
from kdns.plugins.plugin import MISS, REFUSE, REWRITE, Forwarding, NameRewrite, Route

# Directives for whose blocks the compiled path forwards nothing: they time what the plugins behind them take.
UNFORWARDED = frozenset({"cancel"})
MAX_PAYLOAD = 65_535  # octets over UDP that a client can ask for

Zones = Mapping[bytes, Block]  # of a listener


def compiled_routes(zones: Zones, label: str) -> list[Route]:
    """What the compiled path needs to know of a listener's zones, most specific suffix first."""
    routes: dict[bytes, Route] = {}
    for zone, block in zones.items():
        routes[zone] = Route(zone, REFUSE if block.handler is None else MISS)
        for cut in _table_routes(block):
            if names.longest_zone(cut.suffix, tuple(zones)) == zone:
                routes[cut.suffix] = cut
            elif cut.action != REWRITE and names.is_below(zone, cut.suffix) and _is_deepest(cut.suffix, zone, block):
                routes[zone] = cut._replace(suffix=zone)
    for zone, block in zones.items():
        _add_cache(routes, zone, block, zones, label)
    for zone, block in zones.items():
        _add_forwarding(routes, zone, block, zones)
    slowed = (
        route._replace(action=MISS, cache=None, forwarding=None) if route.is_slow else route
        for route in routes.values()
    )
    metered = (route._replace(meter=_meter_of(route.suffix, zones, label)) for route in slowed)
    return sorted(metered, key=lambda route: len(route.suffix), reverse=True)


def _add_cache(routes: dict[bytes, Route], zone: bytes, block: Block, zones: Zones, label: str) -> None:
    """Let the routes of a zone lead to its answer cache, if only transparent plugins stand before that."""
    cache, adapt, touched = _before(block, "cache")
    if cache is None:
        return
    cached, policy = cache.zones, cache.policy(label)
    for suffix in touched:
        if names.longest_zone(suffix, tuple(zones)) == zone:
            routes.setdefault(suffix, Route(suffix, MISS))
    for inner in cached:
        if inner not in routes and names.longest_zone(inner, tuple(zones)) == zone:
            outer = names.longest_zone(inner, tuple(routes))
            assert outer is not None
            routes[inner] = routes[outer]._replace(suffix=inner)
    for suffix, route in routes.items():
        if names.longest_zone(suffix, tuple(zones)) != zone or names.longest_zone(suffix, cached) is None:
            continue
        if names.longest_zone(suffix, touched) is not None:
            continue
        if route.action == MISS:
            route = adapt(route)
        else:
            route = routes[suffix] = route._replace(cache_counters=policy.counters[:3])
            if not route.nxdomain_is_miss:
                continue
        routes[suffix] = route if route.computes else route._replace(cache=policy)


def _add_forwarding(routes: dict[bytes, Route], zone: bytes, block: Block, zones: Zones) -> None:
    """Let the routes of a zone lead to `forward`, where the compiled path can do all that the chain does before."""
    plugins = dict(block.plugins)
    forward, adapt, touched = _before(block, "forward")
    cache = plugins.get("cache")
    if forward is None or not UNFORWARDED.isdisjoint(plugins):
        return
    rules = None if cache is None else cache.rules()  # type: ignore[attr-defined]
    if cache is not None and rules is None:
        return
    tables = [route.suffix for plugin in plugins.values() if hasattr(plugin, "routes") for route in plugin.routes()]
    disabled = () if cache is None else cache.cuts  # type: ignore[attr-defined]
    others = (*touched, *tables, *disabled)
    for inner in (*forward.cuts, *others):
        outer = names.longest_zone(inner, tuple(routes))
        if (
            inner not in routes
            and outer is not None
            and routes[outer].action == MISS
            and names.longest_zone(inner, tuple(zones)) == zone
        ):
            routes[inner] = routes[outer]._replace(suffix=inner)
    for suffix, route in routes.items():
        if names.longest_zone(suffix, tuple(zones)) != zone or names.longest_zone(suffix, others) is not None:
            continue
        made = adapt(route)
        if made.action != MISS or made.is_slow or made.computes or made.additional_is_miss or made.error_is_miss:
            continue
        if (engine := forward.engine_of(suffix, rules)) is not None:
            limit = block.settings.udp_limit
            payload = limit if "bufsize" in plugins else MAX_PAYLOAD
            routes[suffix] = route._replace(
                forwarding=Forwarding(engine, limit, payload, made.rotates, made.detours)
            )  # fmt: skip


def _meter_of(suffix: bytes, zones: Zones, label: str) -> int:
    """What counts the queries below a suffix; see Route."""
    zone = names.longest_zone(suffix, tuple(zones))
    assert zone is not None
    meters = [meter for _, plugin in zones[zone].plugins if (meter := getattr(plugin, "meter_of", None))]
    return meters[0](label, zone) if meters else 0


def _table_routes(block: Block) -> list[Route]:
    """The routes of the block's table plugins, as far as only transparent plugins, or such, stand before them.

    Of two of them the first decides all names of its zones.
    """
    routes: list[Route] = []
    for name, plugin in block.plugins:
        if (table_routes := getattr(plugin, "routes", None)) is not None:
            found, adapt, touched = _before(block, name)
            taken = tuple(route.suffix for route in routes)
            free = [route for route in table_routes() if names.longest_zone(route.suffix, taken) is None]
            if found is not None:
                # What stands before `rewrite` sees the client's name, what stands behind it the other one.
                adapted = [adapt(route) for route in free]
                rewritten = [adapt(route) for route in _rewritten(block, name, adapted, taken)]
                routes += _without([*adapted, *rewritten], touched)
    return routes


def _rewritten(block: Block, directive: str, table: Sequence[Route], taken: tuple[bytes, ...]) -> list[Route]:
    """The routes of names that become names of a table plugin, and of no other plugin, where that is simple."""
    made: list[Route] = []
    others = list(taken)
    rewriting: Sequence[NameRewrite] = ()
    for name, plugin in block.plugins:
        if name == directive:
            break
        if (rewrites := getattr(plugin, "rewrites", None)) is not None:
            rewriting = rewrites()
        elif (touches := getattr(plugin, "touches", None)) is not None:
            others += touches() or ()
    suffixes = tuple(route.suffix for route in table)
    for rewrite in rewriting:
        zone = names.longest_zone(rewrite.becomes, suffixes)
        below = () if rewrite.is_exact else (*suffixes, *others)
        if zone is None or names.longest_zone(rewrite.becomes, tuple(others)) is not None:
            continue
        if any(suffix != zone and names.is_below(suffix, rewrite.becomes) for suffix in below):
            continue  # names below what the suffix becomes are treated in different ways
        inner = next(route for route in table if route.suffix == zone)
        made.append(inner._replace(suffix=rewrite.suffix, action=REWRITE, rewrite=rewrite))
    return made


def _without(routes: Sequence[Route], touched: tuple[bytes, ...]) -> list[Route]:
    """Routes with the names below some suffixes left to the slow path, but for those that are rewritten there."""
    rewritten = {route.suffix: route for route in routes if route.action == REWRITE}
    suffixes = tuple(route.suffix for route in routes)
    left = [route for route in routes if names.longest_zone(route.suffix, touched) is None]
    cut = {suffix for suffix in touched if names.longest_zone(suffix, suffixes) is not None}
    cut |= {suffix for suffix in suffixes if names.longest_zone(suffix, touched) is not None}
    return left + [rewritten.get(suffix) or Route(suffix, MISS) for suffix in sorted(cut)]


def _before(block: Block, directive: str) -> tuple[Any, Callable[[Route], Route], tuple[bytes, ...]]:
    """The plugin of a directive, or None where one before it is in the way; what those make of its routes; the
    suffixes of the names that one of those may treat in ways of its own."""
    adapts: list[Callable[[Route], Route]] = []
    touched: list[bytes] = []
    rotates = False

    def adapt(route: Route) -> Route:
        return reduce(lambda made, change: change(made), adapts, route._replace(rotates=rotates))

    for name, plugin in block.plugins:
        if name == directive:
            return plugin, adapt, tuple(touched)
        if not plugin.transparent and getattr(plugin, "routes", None) is None:
            touches = getattr(plugin, "touches", None)
            suffixes = None if touches is None else touches()
            if suffixes is None:
                break
            touched += suffixes
        rotates = rotates or name == "loadbalance"
        if (adapt_route := getattr(plugin, "adapt_route", None)) is not None:
            adapts.append(adapt_route)
    return None, adapt, ()


def _is_deepest(suffix: bytes, zone: bytes, block: Block) -> bool:
    """Whether `suffix` is the longest of the block's table suffixes that hold `zone`."""
    return names.longest_zone(zone, tuple(route.suffix for route in _table_routes(block))) == suffix
