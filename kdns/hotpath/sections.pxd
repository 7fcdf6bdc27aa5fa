# Walking the sections of a reply; see sections.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef struct Facts:
    # What a reply's sections hold; Contents of sections.pyx has the same.
    uint32_t lowest_ttl
    uint32_t whole_size
    uint16_t rotate_from
    uint8_t record_length
    bint answers_type
    bint has_soa
    bint has_ns
    bint signatures_valid

cdef bint examine(
    Py_ssize_t question_end, const uint8_t* start, Py_ssize_t length, unsigned int answers, unsigned int authorities,
    unsigned int additionals, unsigned int qtype, uint32_t now, Facts* facts,
) noexcept nogil

cdef size_t put_ttls(uint8_t* octets, size_t length, unsigned int records, uint32_t ttl) noexcept nogil
cdef size_t whole_record(const uint8_t* octets, size_t length, size_t at) noexcept nogil
