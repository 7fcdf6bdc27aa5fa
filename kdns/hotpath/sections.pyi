from typing import NamedTuple

class Contents(NamedTuple):
    lowest_ttl: int
    answers_type: bool
    has_soa: bool
    has_ns: bool
    signatures_valid: bool
    rotate_from: int
    record_length: int
    whole_size: int

def inspect(
    question_end: int, octets: bytes, answers: int, authorities: int, additionals: int, qtype: int, now: int
) -> Contents | None: ...
def with_ttl(octets: bytes, records: int, ttl: int) -> bytes: ...
