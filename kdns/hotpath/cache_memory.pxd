# The layout of the answer cache in memory, shared by all workers of a pod; cache.pyx tells the design.
#
#   0        4096          4096 + arenas * ARENA_PAGE      8 * slots       8 * slots
#   +--------+-------------+-------------------------------+---------------+----------------+
#   | header | Arena, ...  | index: 64-octet buckets       | uses          | logs           |
#   +--------+-------------+-------------------------------+---------------+----------------+
#
#   slot (u64)   15-bit tag | used | denial | 8-bit arena | 39-bit position, in units of 8 octets; 0 = empty
#   uses (u64)   of the slot with the same number: 44 bits when it was used last, in ms | 20 bits how often
#   logs         of each arena two rings, for success and for denial; an entry never crosses a ring's end
#   entry        EntryHeader | name, lower case | body | padding to 8
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.atomics cimport pthread_mutex_t

cdef enum:
    CACHE_SLOTS = 8             # of a bucket: one cache line
    CACHE_ROWS = 64             # stores whose entries are counted
    CACHE_HEADER = 38           # octets of an EntryHeader
    LOG_SUCCESS = 0
    LOG_DENIAL = 1
    LOGS = 2
    # Of an entry's key.
    KEY_DNSSEC_OK = 1
    KEY_CHECKING_DISABLED = 2
    KEY_PAD = 128               # no entry, but the rest of a ring that was too short for one
    # What else is kept of a reply.
    ENTRY_RECURSION = 1         # RA
    ENTRY_AUTHENTIC = 2         # AD
    ENTRY_ANSWERS = 4           # its answer section holds the type that was asked for

cdef packed struct EntryHeader:
    uint64_t key                # secret hash of store, name, type and flags
    uint64_t stored             # ms of the monotonic clock << 16 | octets of the body
    uint32_t ttl                # seconds, of every record
    uint16_t qtype
    uint16_t answers
    uint16_t authorities
    uint16_t additionals
    uint16_t rotate_from        # as in a blob of the table
    uint8_t record_length
    uint8_t name_length
    uint8_t key_flags
    uint8_t kind                # rcode << 4 | ENTRY_ flags
    uint8_t row                 # of its store's counts
    uint8_t unused
    uint16_t expansion          # octets the body has more with every name written out

cdef struct Log:
    uint64_t head               # octets ever written; where the next entry goes
    uint64_t tail               # octets ever dropped; entries before it are gone
    uint64_t unused[6]

cdef struct StoreCounts:
    uint64_t store              # 0: a free row
    int64_t entries[LOGS]
    uint64_t evictions[LOGS]

cdef struct Arena:
    Log logs[LOGS]
    pthread_mutex_t lock
    StoreCounts counts[CACHE_ROWS]

cdef struct CacheHeader:
    uint64_t seed[2]
    uint64_t counts_uses        # somebody wants to know how often entries are used

cdef struct Found:
    EntryHeader entry           # a copy
    const uint8_t* body
    const Log* log
    uint64_t position
    uint64_t left               # octets from there to the end of the ring
    uint64_t* slot
    uint64_t value              # of the slot

cdef struct CachePolicy:
    # What the directive that owns a store says about answering from it.
    uint64_t store              # 0: the names of this route are not looked up
    uint64_t prefetch_gap       # ms; a longer one between two uses starts the count anew
    uint32_t prefetch_uses      # from so many uses on an entry is renewed before it expires; 0: never
    uint8_t prefetch_percent    # of its TTL
    uint8_t keeps_ttl
    uint8_t serves_stale

cdef class CacheMemory:
    cdef CacheHeader* header
    cdef uint64_t* index
    cdef uint64_t* uses
    cdef uint8_t* logs
    cdef size_t mapped
    cdef uint64_t buckets
    cdef uint64_t log_sizes[LOGS]       # octets of an arena's rings
    cdef unsigned int arenas
    cdef uint64_t held_clock    # ms; 0: the clock runs

    cdef uint64_t _key(self, uint64_t store, bytes name, uint16_t qtype, unsigned int key_flags) except? 0
    cdef object _as_tuple(self, const Found* found)
    cdef Arena* arena(self, unsigned int number) noexcept nogil
    cdef uint8_t* ring(self, unsigned int number, unsigned int log) noexcept nogil
    cdef uint64_t clock(self) noexcept nogil
    cdef uint64_t key_of(
        self, uint64_t store, const uint8_t* name, unsigned int name_length, uint16_t qtype, unsigned int key_flags
    ) noexcept nogil
    cdef bint find(
        self, uint64_t key, const uint8_t* name, unsigned int name_length, uint16_t qtype, unsigned int key_flags,
        Found* found,
    ) noexcept nogil
    cdef const uint8_t* locate(self, uint64_t value, Found* found) noexcept nogil
    cdef bint read_slot(self, uint64_t value, Found* found) noexcept nogil
    cdef bint is_there(self, const Found* found) noexcept nogil
    cdef void mark_used(self, const Found* found) noexcept nogil
    cdef uint64_t use_of(self, const Found* found, uint64_t gap, uint64_t now) noexcept nogil
    cdef void note_use(self, const Found* found, uint64_t use) noexcept nogil


cdef inline uint64_t entry_stored(const EntryHeader* entry) noexcept nogil:
    return entry.stored >> 16


cdef inline size_t entry_body(const EntryHeader* entry) noexcept nogil:
    return <size_t> (entry.stored & 0xFFFF)


cdef inline unsigned int entry_rcode(const EntryHeader* entry) noexcept nogil:
    return entry.kind >> 4


cdef inline int64_t entry_ttl(const EntryHeader* entry, uint64_t now) noexcept nogil:
    """Seconds an entry has left; 0 and less: it has expired."""
    cdef uint64_t stored = entry_stored(entry)
    return <int64_t> entry.ttl - <int64_t> ((now - stored) / 1000 if now > stored else 0)

cdef inline uint64_t entry_size(const EntryHeader* entry) noexcept nogil:
    return (CACHE_HEADER + entry.name_length + entry_body(entry) + 7) & ~(<uint64_t> 7)


cdef inline uint64_t bucket_of(uint64_t key, uint64_t buckets) noexcept nogil:
    return ((key & 0xFFFFFFFFU) * buckets) >> 32


cdef inline uint64_t slot_tag(uint64_t value) noexcept nogil:
    """The tag of a slot, or of a key."""
    return value >> 49


cdef inline bint is_used_slot(uint64_t value) noexcept nogil:
    return value >> 48 & 1


cdef inline uint64_t used_slot(uint64_t value) noexcept nogil:
    return value | <uint64_t> 1 << 48


cdef inline uint64_t without_use(uint64_t value) noexcept nogil:
    return value & ~(<uint64_t> 1 << 48)


cdef inline bint is_denial_slot(uint64_t value) noexcept nogil:
    return value >> 47 & 1


cdef inline uint64_t slot_behind(uint64_t head, uint64_t value) noexcept nogil:
    """How many octets before the head of its ring the entry of a slot stands."""
    return ((head >> 3) - value & ((<uint64_t> 1 << 39) - 1)) << 3


cdef inline uint64_t slot_value(uint64_t key, unsigned int number, unsigned int log, uint64_t position) noexcept nogil:
    return (
        slot_tag(key) << 49 | <uint64_t> (log == LOG_DENIAL) << 47 | <uint64_t> number << 39
        | (position >> 3 & ((<uint64_t> 1 << 39) - 1))
    )
