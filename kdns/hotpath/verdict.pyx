# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Sections are read by sections.examine(), which checks them, and changed only where it has found them whole.
"""kdns.plugins.cache.verdict and its store's `put` for the compiled path: the same TTL, the same entry."""

from libc.string cimport memset

from kdns.hotpath.cache_memory cimport (
    ENTRY_ANSWERS, ENTRY_AUTHENTIC, ENTRY_RECURSION, KEY_CHECKING_DISABLED, KEY_DNSSEC_OK, LOG_DENIAL, LOG_SUCCESS,
    EntryHeader,
)
from kdns.hotpath.sections cimport Facts, examine, put_ttls
from kdns.hotpath.wire cimport HEADER_SIZE

cdef enum:
    EMPTY_TTL = 5               # seconds: of a reply without records, of a delegation, and of errors that are not kept
    FLAG_TRUNCATED = 0x0200
    FLAG_RECURSION = 0x0080
    FLAG_AUTHENTIC = 0x0020
    RCODE_NOERROR = 0
    RCODE_SERVFAIL = 2
    RCODE_NXDOMAIN = 3
    RCODE_NOTIMP = 4
    MAX_RECORD = 255            # octets of each record of a run that an entry can note


cdef void judge(
    const Rules* rules, const Question* question, Walked* walked, uint32_t now, Verdict* verdict
) noexcept nogil:
    """Decide about an upstream's reply, and make its TTLs one; without `rules` only its size is found out.

    `now` is the time of day in seconds, for signatures.
    """
    cdef Facts facts
    cdef unsigned int count = <unsigned int> walked.answers + walked.authorities + walked.additionals
    cdef bint truncated = walked.flags & FLAG_TRUNCATED != 0
    cdef uint32_t ttl
    memset(verdict, 0, sizeof(Verdict))
    verdict.rotate_from, verdict.record_length = walked.rotate_from, walked.record_length
    verdict.whole_size = <uint32_t> walked.length
    if not examine(
        HEADER_SIZE + question.name_length + 4, walked.body, walked.length, walked.answers, walked.authorities,
        walked.additionals, question.qtype, now, &facts,
    ):
        return
    verdict.whole_size = facts.whole_size
    if rules == NULL:
        return
    verdict.is_whole = verdict.is_kept = True
    ttl = facts.lowest_ttl if count else EMPTY_TTL
    if question.dnssec_ok and not facts.signatures_valid:
        verdict.is_kept = False
        ttl = _clamp(EMPTY_TTL, rules.least_success, rules.most_success)
    elif walked.rcode == RCODE_NOERROR and walked.answers:
        verdict.answers = facts.answers_type
        verdict.is_denial = not verdict.answers and facts.has_soa   # aliases that lead to a name without the type
        verdict.is_kept = verdict.answers or verdict.is_denial
        if verdict.is_denial:
            ttl = _clamp(ttl, rules.least_denial, rules.most_denial)
        else:
            ttl = _clamp(ttl, rules.least_success, rules.most_success)
    elif facts.has_soa and (
        walked.rcode == RCODE_NOERROR or (walked.rcode == RCODE_NXDOMAIN and not walked.answers)
    ):
        verdict.is_denial = True
        ttl = _clamp(ttl, rules.least_denial, rules.most_denial)
    elif walked.rcode == RCODE_SERVFAIL or walked.rcode == RCODE_NOTIMP:
        verdict.is_denial = True
        ttl = rules.servfail
    elif walked.rcode == RCODE_NOERROR:
        ttl = _clamp(EMPTY_TTL if facts.has_ns else ttl, rules.least_success, rules.most_success)
    else:
        verdict.is_kept = False
        ttl = _clamp(EMPTY_TTL, rules.least_success, rules.most_success)
    verdict.is_kept = verdict.is_kept and ttl > 0 and not truncated
    put_ttls(walked.body, walked.length, count, ttl)
    verdict.ttl = ttl
    if facts.record_length and not verdict.record_length:
        verdict.rotate_from, verdict.record_length = facts.rotate_from, facts.record_length


cdef bint keep(
    AnswerCache cache, uint64_t store, const Question* question, const Walked* walked, const Verdict* verdict
) noexcept nogil:
    """Keep a reply that was judged; False where there was no room."""
    cdef EntryHeader entry
    memset(&entry, 0, sizeof(entry))
    entry.key_flags = <uint8_t> (
        (KEY_DNSSEC_OK if question.dnssec_ok else 0) | (KEY_CHECKING_DISABLED if question.checking_disabled else 0)
    )
    entry.key = cache.key_of(store, question.name, question.name_length, question.qtype, entry.key_flags)
    entry.stored = cache.clock() << 16 | <uint64_t> walked.length
    entry.ttl = verdict.ttl
    entry.qtype = question.qtype
    entry.answers, entry.authorities, entry.additionals = walked.answers, walked.authorities, walked.additionals
    if verdict.record_length <= MAX_RECORD:
        entry.rotate_from, entry.record_length = verdict.rotate_from, <uint8_t> verdict.record_length
    entry.name_length = <uint8_t> question.name_length
    entry.kind = <uint8_t> (
        walked.rcode << 4
        | (ENTRY_RECURSION if walked.flags & FLAG_RECURSION else 0)
        | (ENTRY_AUTHENTIC if walked.flags & FLAG_AUTHENTIC else 0)
        | (ENTRY_ANSWERS if verdict.answers else 0)
    )
    if verdict.whole_size > walked.length:
        entry.expansion = <uint16_t> min(<size_t> 0xFFFF, verdict.whole_size - walked.length)
    return cache.keep(
        store, &entry, LOG_DENIAL if verdict.is_denial else LOG_SUCCESS, question.name, walked.body
    )


cdef inline uint32_t _clamp(uint32_t ttl, uint32_t least, uint32_t most) noexcept nogil:
    """A TTL between the least and the greatest; the greatest wins."""
    return min(max(ttl, least), most)
