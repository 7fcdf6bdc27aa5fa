from typing import Self

from typing_extensions import Buffer, disjoint_base

from kdns.hotpath.answer import Responder

@disjoint_base
class StreamResponder:
    def __new__(cls, responder: Responder) -> Self: ...
    def answer(self, data: Buffer, family_is_v6: bool = False) -> tuple[int, bytes, list[bytes]]: ...
