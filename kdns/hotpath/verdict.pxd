# What becomes of a reply, and whether it is kept; see verdict.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.cache cimport AnswerCache
from kdns.hotpath.walker cimport Walked

cdef struct Rules:
    # What `cache` makes of a reply: kdns.plugins.cache.options.
    uint32_t least_success      # seconds
    uint32_t most_success
    uint32_t least_denial
    uint32_t most_denial
    uint32_t servfail

cdef struct Question:
    const uint8_t* name         # lower case, zeros behind it
    uint16_t name_length
    uint16_t qtype
    uint8_t dnssec_ok
    uint8_t checking_disabled

cdef struct Verdict:
    uint32_t ttl                # seconds
    uint32_t whole_size         # octets of the sections with every name written out
    uint16_t rotate_from
    uint16_t record_length
    bint is_whole               # the sections are what they seem; otherwise nothing below holds
    bint is_kept
    bint is_denial
    bint answers

cdef void judge(
    const Rules* rules, const Question* question, Walked* walked, uint32_t now, Verdict* verdict
) noexcept nogil
cdef bint keep(
    AnswerCache cache, uint64_t store, const Question* question, const Walked* walked, const Verdict* verdict
) noexcept nogil
