# Answering from the answer cache; see cached.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.cache_memory cimport CacheMemory, CachePolicy
from kdns.hotpath.wire cimport Query

cdef struct Taken:
    size_t length               # octets copied
    uint32_t whole_size         # octets of the whole body, no name compressed
    uint16_t answers
    uint16_t authorities
    uint16_t additionals
    uint8_t rcode
    uint8_t recursion_available
    uint8_t authentic_data
    uint8_t is_cut
    uint8_t log                 # which of LOG_SUCCESS and LOG_DENIAL it was kept in
    uint8_t is_absent           # nothing that holds is kept of the question

cdef bint take(
    CacheMemory cache, const CachePolicy* policy, const Query* query, bint checking_disabled, size_t room, bint rotates,
    uint64_t chance, uint8_t* out, Taken* taken,
) noexcept nogil
cdef void copy_sections(
    const uint8_t* body, size_t length, size_t head, size_t record, size_t room, bint rotates, uint64_t chance,
    uint8_t* out, Taken* taken,
) noexcept nogil
