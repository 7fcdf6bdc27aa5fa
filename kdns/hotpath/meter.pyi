from typing import Self

from typing_extensions import Buffer, disjoint_base

@disjoint_base
class Meters:
    def __new__(cls, memory: Buffer) -> Self: ...
    def observe(
        self,
        meter: int,
        *,
        stream: bool,
        is_v6: bool,
        qtype: int,
        dnssec_ok: bool,
        request_size: int,
        response_size: int,
        seconds: float,
    ) -> None: ...
