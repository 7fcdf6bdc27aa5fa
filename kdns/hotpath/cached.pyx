# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# An entry's lengths were compared with its ring when its header was copied; what is walked here is the copy, within it.
"""From a kept reply to the sections a client gets, where that needs no decision.

Whatever does is left to the slow path: an entry that has expired, one that is to be renewed, one of two that may both
be served.
"""

from libc.string cimport memcpy

from kdns.hotpath.cache_memory cimport (
    ENTRY_AUTHENTIC, ENTRY_RECURSION, KEY_CHECKING_DISABLED, KEY_DNSSEC_OK, LOG_DENIAL, LOG_SUCCESS, EntryHeader, Found,
    entry_body, entry_rcode, entry_ttl,
)
from kdns.hotpath.sections cimport put_ttls, whole_record

cdef enum:
    RCODE_NOERROR = 0
    RCODE_SERVFAIL = 2
    RCODE_NOTIMP = 4
    USES = (1 << 20) - 1        # the part of a use that is a count


cdef bint take(
    CacheMemory cache, const CachePolicy* policy, const Query* query, bint checking_disabled, size_t room, bint rotates,
    uint64_t chance, uint8_t* out, Taken* taken,
) noexcept nogil:
    """Copy the sections of the entry that answers a query, as many records as fit; False where the slow path must."""
    cdef unsigned int flags = (KEY_DNSSEC_OK if query.dnssec_ok else 0) | (
        KEY_CHECKING_DISABLED if checking_disabled else 0
    )
    cdef Found found[2]
    cdef const Found* chosen
    cdef const EntryHeader* entry
    cdef uint64_t now, use = 0
    cdef int64_t left
    cdef uint64_t key = cache.key_of(policy.store, query.name, query.name_length, query.qtype, flags)
    taken.is_absent = True
    if not cache.find(key, query.name, query.name_length, query.qtype, flags, found):
        return False
    now = cache.clock()
    chosen = _choose(policy, found, now)
    if chosen == NULL:
        return False
    taken.is_absent = False
    entry = &chosen.entry
    left = entry_ttl(entry, now)
    if policy.prefetch_uses:
        use = cache.use_of(chosen, policy.prefetch_gap, now)
        # Rounded up, as the slow path does.
        if use & USES >= policy.prefetch_uses and left <= (
            <int64_t> policy.prefetch_percent * entry.ttl + 99
        ) / 100:
            return False
    if not _copy(cache, chosen, room, rotates and entry_rcode(entry) == RCODE_NOERROR, chance, out, taken):
        return False
    put_ttls(
        out, taken.length, <unsigned int> taken.answers + taken.authorities + taken.additionals,
        entry.ttl if policy.keeps_ttl else <uint32_t> left,
    )
    if policy.prefetch_uses:
        cache.note_use(chosen, use)
    cache.mark_used(chosen)
    taken.rcode = <uint8_t> entry_rcode(entry)
    taken.recursion_available = entry.kind & ENTRY_RECURSION != 0
    taken.authentic_data = entry.kind & ENTRY_AUTHENTIC != 0
    taken.whole_size = <uint32_t> entry_body(entry) + entry.expansion
    taken.log = LOG_DENIAL if chosen == &found[LOG_DENIAL] else LOG_SUCCESS
    return True


cdef const Found* _choose(const CachePolicy* policy, const Found* found, uint64_t now) noexcept nogil:
    """The entry that counts, if it holds yet."""
    cdef const Found* denial = &found[LOG_DENIAL]
    cdef const Found* answer = &found[LOG_SUCCESS]
    cdef unsigned int rcode
    if policy.serves_stale and denial.slot != NULL and answer.slot != NULL:
        return NULL
    if answer.slot != NULL and entry_ttl(&answer.entry, now) <= 0:
        answer = NULL
    if denial.slot != NULL and entry_ttl(&denial.entry, now) > 0:
        rcode = entry_rcode(&denial.entry)
        # A server's trouble does not hide an answer that is known.
        if (rcode != RCODE_SERVFAIL and rcode != RCODE_NOTIMP) or answer == NULL or answer.slot == NULL:
            return denial
    return answer if answer != NULL and answer.slot != NULL else NULL


cdef bint _copy(
    CacheMemory cache, const Found* chosen, size_t room, bint rotates, uint64_t chance, uint8_t* out, Taken* taken
) noexcept nogil:
    cdef const EntryHeader* entry = &chosen.entry
    taken.answers, taken.authorities, taken.additionals = entry.answers, entry.authorities, entry.additionals
    copy_sections(
        chosen.body, entry_body(entry), entry.rotate_from, entry.record_length, room, rotates, chance, out, taken
    )
    return cache.is_there(chosen)


cdef void copy_sections(
    const uint8_t* body, size_t length, size_t head, size_t record, size_t room, bint rotates, uint64_t chance,
    uint8_t* out, Taken* taken,
) noexcept nogil:
    """Copy what fits of sections, rotated; `taken` has their counts, and gets those of the copy.

    The sections may be anything: they may change meanwhile, and then the copy is thrown away.
    """
    cdef size_t count, start, fit, before_end
    cdef bint is_cut = length > room
    taken.is_cut = is_cut
    if record and (is_cut or rotates):
        if head > room:
            taken.length = taken.answers = taken.authorities = taken.additionals = 0
            return
        count = (length - head) / record
        start = ((chance >> 32) * count) >> 32
        fit = min(count, (room - head) / record)
        before_end = min(fit, count - start)
        memcpy(out, body, head)
        memcpy(out + head, body + head + start * record, before_end * record)
        memcpy(out + head + before_end * record, body + head, (fit - before_end) * record)
        taken.length = head + fit * record
        taken.answers = <uint16_t> (taken.answers - count + fit)
        return
    taken.length = min(length, room)
    memcpy(out, body, taken.length)
    if is_cut:
        _cut(out, taken)


cdef void _cut(const uint8_t* out, Taken* taken) noexcept nogil:
    """Leave only the records that were copied whole."""
    cdef size_t at = 0, end
    cdef unsigned int whole = 0, before = <unsigned int> taken.answers + taken.authorities
    while True:
        end = whole_record(out, taken.length, at)
        if end == 0:
            break
        at = end
        whole += 1
    taken.length = at
    taken.additionals = <uint16_t> (max(whole, before) - before)
    taken.authorities = <uint16_t> (min(max(whole, taken.answers), before) - taken.answers)
    taken.answers = <uint16_t> min(whole, taken.answers)
