# The writing half of the answer cache; the layout stands in cache_memory.pxd.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.cache_memory cimport (
    CACHE_HEADER, CACHE_ROWS, CACHE_SLOTS, KEY_PAD, LOG_DENIAL, LOG_SUCCESS, Arena, CacheMemory, EntryHeader, Found, Log,
    StoreCounts, bucket_of, entry_body, entry_size, entry_ttl, is_denial_slot, is_used_slot, slot_tag, slot_value,
    without_use,
)

cdef class AnswerCache(CacheMemory):
    cdef unsigned int own       # the arena this process writes in
    cdef uint8_t* scratch       # room for an entry that is made, and for one that is moved

    cdef bint keep(
        self, uint64_t store, EntryHeader* entry, unsigned int log, const uint8_t* name, const uint8_t* body
    ) noexcept nogil
    cdef bint add(
        self, const EntryHeader* entry, unsigned int number, unsigned int log, const uint8_t* name, const uint8_t* body
    ) noexcept nogil
    cdef void make_room(self, unsigned int number, unsigned int log, uint64_t size) noexcept nogil
    cdef bint drop_oldest(self, unsigned int number, unsigned int log, bint may_keep) noexcept nogil
    cdef uint64_t append(self, unsigned int number, unsigned int log, const uint8_t* entry, uint64_t size) noexcept nogil
    cdef bint publish(self, uint64_t key, unsigned int log, uint64_t made) noexcept nogil
    cdef unsigned int rank_of(self, uint64_t value, uint64_t key, unsigned int log) noexcept nogil
    cdef uint64_t* slot_of(self, uint64_t key, uint64_t value) noexcept nogil
    cdef StoreCounts* row_of(self, Arena* arena, uint64_t store) noexcept nogil
