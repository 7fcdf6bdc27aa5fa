# What the compiled walker makes of an upstream's reply; see walker.pyx.
from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    MAX_WALKED = 4096           # octets of a message that is walked here; larger ones are the slow path's

cdef struct Names:
    uint16_t lengths[MAX_WALKED]    # of the name that begins there, written out; 0: none was walked

cdef struct Walked:
    uint8_t* body               # the sections behind the question, without the OPT record
    size_t length               # octets of them
    uint16_t answers
    uint16_t authorities
    uint16_t additionals
    uint16_t rotate_from        # as in kdns.dns.compression.Body
    uint16_t record_length
    uint16_t flags              # of the header
    uint16_t rcode              # the extended part too
    bint has_options            # EDNS options a client is to get

cdef bint walk(
    uint8_t* message, size_t size, const uint8_t* question, size_t question_size, Names* names, Walked* walked
) noexcept nogil
