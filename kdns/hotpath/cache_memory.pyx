# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Every length that comes out of shared memory is compared with what its ring holds before it is used.
"""The memory of the answer cache, and reading it; cache.pyx tells the design, and writes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap

import os

from kdns.hotpath.atomics cimport (
    kdns_acquire_fence, kdns_coarse_clock_ms, kdns_fold, kdns_load, kdns_or, kdns_peek,
    kdns_store, kdns_lock_init,
)

cdef enum:
    PAGE = 4096                 # octets
    OCTETS_PER_SLOT = 64        # of the whole cache; with entries of a hundred octets half of the slots are in use
    MAX_ARENAS = 256            # 8 bits of a slot
    MAX_NAME = 255              # octets (RFC 1035, 2.3.4)
    DENIAL_SHARE = 4            # denials, which are small, have this part of an arena
    MIN_SIZE = 1 << 20          # octets of an arena at least: either ring holds the largest message, twice
    USE_MASK = (1 << 20) - 1

cdef uint64_t KEY_FACTOR = 0x9E3779B97F4A7C15ULL
cdef uint64_t LAST_FACTOR = 0xC2B2AE3D27D4EB4FULL

MIN_ARENA_BYTES = MIN_SIZE


cdef class CacheMemory:
    """The memory of `arenas` workers, `size_bytes` in all; processes forked later share it."""

    def __cinit__(self, unsigned int arenas, size_t size_bytes):
        if not 0 < arenas <= MAX_ARENAS:
            raise ValueError(f"{arenas} arenas, expected 1 to {MAX_ARENAS}")
        if size_bytes < arenas * <size_t> MIN_SIZE:
            raise ValueError(f"{size_bytes} octets for {arenas} arenas, expected at least {arenas * MIN_SIZE}")
        cdef size_t arena_room = (sizeof(Arena) + PAGE - 1) & ~(<size_t> PAGE - 1)
        cdef size_t front = PAGE + arenas * arena_room
        cdef void* mapping
        cdef unsigned int number
        self.arenas = arenas
        self.buckets = size_bytes / (OCTETS_PER_SLOT * CACHE_SLOTS)
        cdef size_t room = (size_bytes - front - 16 * CACHE_SLOTS * self.buckets) / arenas
        self.log_sizes[LOG_DENIAL] = (room / DENIAL_SHARE) & ~(<uint64_t> 7)
        self.log_sizes[LOG_SUCCESS] = (room - self.log_sizes[LOG_DENIAL]) & ~(<uint64_t> 7)
        # Pages nobody wrote cost nothing.
        mapping = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        if mapping == MAP_FAILED:
            raise MemoryError(f"{size_bytes} octets for the answer cache")
        self.mapped = size_bytes
        self.header = <CacheHeader*> mapping
        self.index = <uint64_t*> (<uint8_t*> mapping + front)
        self.uses = self.index + CACHE_SLOTS * self.buckets
        self.logs = <uint8_t*> (self.uses + CACHE_SLOTS * self.buckets)
        memcpy(self.header.seed, PyBytes_AS_STRING(os.urandom(16)), 16)
        for number in range(arenas):
            if kdns_lock_init(&self.arena(number).lock):
                raise MemoryError("the answer cache cannot have locks")
            for log in range(LOGS):         # position 0 would make a slot that looks empty
                self.arena(number).logs[<int> log].head = self.arena(number).logs[<int> log].tail = 8

    def __dealloc__(self):
        if self.header != NULL:
            munmap(self.header, self.mapped)

    @property
    def size_bytes(self):
        """Octets at most, the index included."""
        return self.mapped

    def now(self):
        """The clock of the entries, in ms: it only goes forward, whatever the time of day does."""
        return self.clock()

    def hold_clock(self, uint64_t now):
        """Let the clock stand at `now` ms, for tests; 0 lets it run."""
        self.held_clock = now

    def get(self, uint64_t store, bytes name not None, uint16_t qtype, unsigned int key_flags):
        """The (denial, success) kept for a question, each None or an entry.

        An entry is (kind, ttl, stored, octets, answers, authorities, additionals, rotate_from, record_length).
        """
        cdef Found found[2]
        cdef uint64_t key = self._key(store, name, qtype, key_flags)
        if not self.find(
            key, <const uint8_t*> PyBytes_AS_STRING(name), <unsigned int> PyBytes_GET_SIZE(name), qtype, key_flags, found
        ):
            return None, None
        return self._as_tuple(&found[LOG_DENIAL]), self._as_tuple(&found[LOG_SUCCESS])

    def count_use(
        self, uint64_t store, bytes name not None, uint16_t qtype, unsigned int key_flags, bint is_denial, uint64_t gap
    ):
        """Count a use of an entry; how many there were without a pause longer than `gap` ms."""
        cdef Found found[2]
        cdef Found* one = &found[LOG_DENIAL if is_denial else LOG_SUCCESS]
        cdef uint64_t use
        if not self.find(
            self._key(store, name, qtype, key_flags), <const uint8_t*> PyBytes_AS_STRING(name),
            <unsigned int> PyBytes_GET_SIZE(name), qtype, key_flags, found,
        ) or one.slot == NULL:
            return 0
        use = self.use_of(one, gap, self.clock())
        self.note_use(one, use)
        return use & USE_MASK

    def mark(self, uint64_t store, bytes name not None, uint16_t qtype, unsigned int key_flags, bint is_denial):
        """Note that an entry was used: it is not dropped before others that were not."""
        cdef Found found[2]
        cdef Found* one = &found[LOG_DENIAL if is_denial else LOG_SUCCESS]
        if self.find(
            self._key(store, name, qtype, key_flags), <const uint8_t*> PyBytes_AS_STRING(name),
            <unsigned int> PyBytes_GET_SIZE(name), qtype, key_flags, found,
        ) and one.slot != NULL:
            self.mark_used(one)

    def statistics(self):
        """Numbers of the whole cache: octets of entries and of rings, slots in use and slots."""
        cdef uint64_t used = 0, at, slots = 0
        cdef unsigned int number, log
        for number in range(self.arenas):
            for log in range(LOGS):
                used += self.arena(number).logs[log].head - self.arena(number).logs[log].tail
        for at in range(CACHE_SLOTS * self.buckets):
            slots += self.index[at] != 0
        return {
            "entry_bytes": used,
            "ring_bytes": self.arenas * (self.log_sizes[LOG_SUCCESS] + self.log_sizes[LOG_DENIAL]),
            "slots_used": slots,
            "slots": CACHE_SLOTS * self.buckets,
        }

    cdef uint64_t _key(self, uint64_t store, bytes name, uint16_t qtype, unsigned int key_flags) except? 0:
        cdef uint8_t padded[272]
        cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
        if not 0 < size <= MAX_NAME:
            raise ValueError(f"name of {size} octets, expected 1 to {MAX_NAME}")
        memset(padded + (size & ~7), 0, 16)
        memcpy(padded, PyBytes_AS_STRING(name), size)
        return self.key_of(store, padded, <unsigned int> size, qtype, key_flags)

    cdef object _as_tuple(self, const Found* found):
        cdef bytes octets
        if found.slot == NULL:
            return None
        octets = PyBytes_FromStringAndSize(<const char*> found.body, entry_body(&found.entry))
        if not self.is_there(found):
            return None
        return (
            found.entry.kind, found.entry.ttl, entry_stored(&found.entry), octets, found.entry.answers,
            found.entry.authorities, found.entry.additionals, found.entry.rotate_from, found.entry.record_length,
        )

    cdef Arena* arena(self, unsigned int number) noexcept nogil:
        return <Arena*> (
            <uint8_t*> self.header + PAGE + number * ((sizeof(Arena) + PAGE - 1) & ~(<size_t> PAGE - 1))
        )

    cdef uint8_t* ring(self, unsigned int number, unsigned int log) noexcept nogil:
        cdef uint8_t* first = self.logs + number * (self.log_sizes[LOG_SUCCESS] + self.log_sizes[LOG_DENIAL])
        return first + (self.log_sizes[LOG_SUCCESS] if log == LOG_DENIAL else 0)

    cdef uint64_t clock(self) noexcept nogil:
        return self.held_clock if self.held_clock else kdns_coarse_clock_ms()

    cdef uint64_t key_of(
        self, uint64_t store, const uint8_t* name, unsigned int name_length, uint16_t qtype, unsigned int key_flags
    ) noexcept nogil:
        """Hash a question; the lower-case name has zeros behind it up to a multiple of eight octets."""
        cdef uint64_t state = self.header.seed[0] ^ store ^ (<uint64_t> qtype << 24 | key_flags << 16 | name_length)
        cdef uint64_t factor = self.header.seed[1] | 1
        cdef uint64_t word
        cdef unsigned int at
        state = kdns_fold(state, KEY_FACTOR)
        for at in range(0, name_length, 8):
            memcpy(&word, name + at, 8)
            state = kdns_fold(state ^ word, factor)
        return kdns_fold(state ^ factor, LAST_FACTOR)

    cdef bint find(
        self, uint64_t key, const uint8_t* name, unsigned int name_length, uint16_t qtype, unsigned int key_flags,
        Found* found,
    ) noexcept nogil:
        """Fill found[LOG_SUCCESS] and found[LOG_DENIAL]; `slot` is NULL where there is none. Whether there is any."""
        cdef uint64_t* bucket = self.index + CACHE_SLOTS * bucket_of(key, self.buckets)
        cdef uint64_t value, tag = slot_tag(key)
        cdef unsigned int at, log
        cdef Found one
        found[LOG_SUCCESS].slot = found[LOG_DENIAL].slot = NULL
        for at in range(CACHE_SLOTS):
            value = kdns_load(bucket + at)
            if slot_tag(value) != tag or value == 0 or not self.read_slot(value, &one):
                continue
            if (
                one.entry.key != key or one.entry.name_length != name_length or one.entry.qtype != qtype
                or one.entry.key_flags != key_flags or memcmp(one.body - name_length, name, name_length) != 0
            ):
                continue
            log = LOG_DENIAL if is_denial_slot(value) else LOG_SUCCESS
            # Two workers may have stored the same at once: the later one counts.
            if found[log].slot == NULL or entry_stored(&found[log].entry) <= entry_stored(&one.entry):
                one.slot = bucket + at
                found[log] = one
        return found[LOG_SUCCESS].slot != NULL or found[LOG_DENIAL].slot != NULL

    cdef const uint8_t* locate(self, uint64_t value, Found* found) noexcept nogil:
        """Where the entry stands that a slot leads to; NULL where it is gone."""
        cdef unsigned int number = <unsigned int> (value >> 39 & 0xFF)
        cdef unsigned int log = LOG_DENIAL if is_denial_slot(value) else LOG_SUCCESS
        cdef uint64_t head, behind, offset
        if number >= self.arenas:
            return NULL
        found.log = &self.arena(number).logs[log]
        found.value = value
        head = kdns_load(&found.log.head)
        behind = slot_behind(head, value)
        if behind == 0 or behind > self.log_sizes[log] or behind > head:
            return NULL
        found.position = head - behind
        offset = found.position % self.log_sizes[log]
        if self.log_sizes[log] - offset < CACHE_HEADER or found.position < kdns_peek(&found.log.tail):
            return NULL
        found.left = self.log_sizes[log] - offset
        return self.ring(number, log) + offset

    cdef bint read_slot(self, uint64_t value, Found* found) noexcept nogil:
        """Copy the header of the entry a slot leads to; False where it is gone."""
        cdef const uint8_t* entry = self.locate(value, found)
        if entry == NULL:
            return False
        memcpy(&found.entry, entry, CACHE_HEADER)
        found.body = entry + CACHE_HEADER + found.entry.name_length
        # A slot from very long ago may lead to the middle of an entry.
        return self.is_there(found) and entry_size(&found.entry) <= found.left

    cdef bint is_there(self, const Found* found) noexcept nogil:
        """Whether what has been copied of an entry was whole: nobody has begun to write over it."""
        kdns_acquire_fence()
        return found.position >= kdns_peek(&found.log.tail)

    cdef void mark_used(self, const Found* found) noexcept nogil:
        if not is_used_slot(found.value):
            kdns_or(found.slot, used_slot(0))

    cdef uint64_t use_of(self, const Found* found, uint64_t gap, uint64_t now) noexcept nogil:
        """What to note if an entry is used now: the time, and the uses without a pause longer than `gap`."""
        cdef uint64_t last = kdns_peek(self.uses + (found.slot - self.index))
        cdef uint64_t count = last & USE_MASK
        if last == 0 or (now > last >> 20 and now - (last >> 20) > gap):
            count = 0
        return now << 20 | (count + 1 if count < USE_MASK else count)

    cdef void note_use(self, const Found* found, uint64_t use) noexcept nogil:
        if not self.header.counts_uses:
            self.header.counts_uses = 1
        kdns_store(self.uses + (found.slot - self.index), use)
