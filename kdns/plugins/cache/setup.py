"""From the `cache` directive to its plugin."""

from __future__ import annotations

from kdns.dns import names
from kdns.plugins.cache.meters import CacheMeters
from kdns.plugins.cache.options import MIN_CAPACITY, parse
from kdns.plugins.cache.plugin import Cache
from kdns.plugins.cache.store import Store
from kdns.plugins.plugin import Setup, TtlClamp


def setup(setup: Setup) -> Cache:
    """`cache [TTL] [ZONES...] { options }`, once per block."""
    options = parse(setup.directive, setup.zones)
    success, denial = options.success, options.denial
    setup.surroundings.cache.entries += max(success.capacity, MIN_CAPACITY) + max(denial.capacity, MIN_CAPACITY)
    setup.block.ttl_clamp = TtlClamp(
        options.zones, (success.min_ttl, success.max_ttl), (denial.min_ttl, denial.max_ttl)
    )  # fmt: skip
    store = Store(setup.block.identity, options, setup.surroundings.cache)
    zones = ",".join(map(names.to_text, options.zones))
    return Cache(options, store, CacheMeters(setup.surroundings.metrics, zones))
