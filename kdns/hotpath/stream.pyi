from typing_extensions import Buffer

from kdns.hotpath.answer import Responder

class StreamResponder:
    def __init__(self, responder: Responder) -> None: ...
    def answer(self, data: Buffer, family_is_v6: bool = False) -> tuple[int, bytes, list[bytes]]: ...
