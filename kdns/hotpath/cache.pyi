from typing import TypeAlias

from typing_extensions import disjoint_base

from kdns.hotpath.cache_memory import MIN_ARENA_BYTES as MIN_ARENA_BYTES
from kdns.hotpath.cache_memory import CacheMemory

__all__ = ["MIN_ARENA_BYTES", "AnswerCache"]

_Body: TypeAlias = tuple[bytes, int, int, int, int, int, object]

@disjoint_base
class AnswerCache(CacheMemory):
    def write_in(self, number: int) -> None: ...
    def put(
        self,
        store: int,
        name: bytes,
        qtype: int,
        key_flags: int,
        is_denial: bool,
        kind: int,
        ttl: int,
        body: _Body,
        whole_size: int = 0,
    ) -> bool: ...
    def counts(self, store: int) -> tuple[int, int, int, int]: ...
