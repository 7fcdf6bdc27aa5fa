"""A server block, set up: what the resolver runs and the compiled path's routes are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdns.plugins.plugin import BlockSettings, Handler, Plugin


@dataclass(frozen=True, slots=True)
class Block:
    """A server block: its chain, outermost plugin first, and the handler that runs it."""

    plugins: tuple[tuple[str, Plugin], ...]
    handler: Handler | None  # None: no directive of it serves, every name is refused
    settings: BlockSettings = field(default_factory=BlockSettings)
