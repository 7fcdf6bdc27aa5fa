# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Lengths are those put() has checked; what is read back from a ring is compared with the ring first.
"""The answer cache: replies of other servers, in memory all workers share, bounded in octets.

It is one cache for all workers. Each worker number has an arena that only it appends to, so writers do not meet; the
index is one for all, so a look-up reads one cache line of it whatever the number of workers. The memory is made before
the workers are, and a successor goes on with its predecessor's arena: nothing is lost with a worker, or by a reload.

An arena has two rings, so that a flood of names that do not exist leaves the answers alone. New entries go to a ring's
head; its oldest ones make room for them, but those that were used since are appended anew instead (CLOCK). Nothing is
ever rehashed or swept: an insertion costs what it replaces.

A reader takes no lock. Positions only grow, and a writer moves the tail, and has everybody see that, before it writes
over what lay behind it. So a reader copies first and looks at the tail after: an entry that is not behind it was whole.

    writer:  tail = new tail; release fence; write entry; head = new head (release); slot = entry (release)
    reader:  slot (acquire); copy; acquire fence; entry was whole if its position >= tail

A bucket is one cache line of eight slots and a key has one bucket. A slot is a hint: it is stored by compare-and-swap,
may lead to what is gone, and is believed only where the entry's key is the one looked for. A full bucket loses an
entry. That loses about one in two hundred when the index is half full, as it is sized to be, and spares the second
line of a table that may not lose any. Denials never take an answer's slot.

Beside the reload's old and new worker of one number nobody shares an arena. For them there is a lock, robust so that
who is killed with it leaves it open; the rings are right between any two stores. Nobody waits for it: who does not get
it does not store.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from kdns.hotpath.atomics cimport (
    kdns_load, kdns_peek, kdns_store, kdns_swap, kdns_lock_try, kdns_release_fence,
    pthread_mutex_unlock,
)

from kdns.hotpath.cache_memory import MIN_ARENA_BYTES

cdef enum:
    MAX_NAME = 255              # octets (RFC 1035, 2.3.4)
    MAX_BODY = 65535            # octets (RFC 1035, 4.2.2)
    MAX_RECORD = 255            # octets of each record of a run that is noted
    LARGEST_SHARE = 2           # an entry takes at most this part of a ring
    MAX_KEPT = 4                # used entries an insertion appends anew before it drops one all the same
    MAX_SWAPS = 4               # tries to store a slot that others store as well
    SCRATCH = 66048             # octets: the largest entry

cdef enum:
    # How well a slot suits a new entry.
    RANK_NONE = 0
    RANK_USED_ANSWER = 1
    RANK_ANSWER = 2
    RANK_USED_DENIAL = 3
    RANK_DENIAL = 4
    RANK_FREE = 5
    RANK_DENIED = 6             # the denial of the question that has an answer now
    RANK_SAME = 7               # of the entry's predecessor

__all__ = ["MIN_ARENA_BYTES", "AnswerCache"]


cdef class AnswerCache(CacheMemory):
    """The cache as a worker has it: it reads what all workers keep, and keeps in an arena of its own."""

    def __cinit__(self, unsigned int arenas, size_t size_bytes):
        self.scratch = <uint8_t*> malloc(2 * SCRATCH)
        if self.scratch == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.scratch)

    def write_in(self, unsigned int number):
        """Append to the arena of this worker number from now on."""
        if number >= self.arenas:
            raise ValueError(f"arena {number} of {self.arenas}")
        self.own = number

    def put(
        self, uint64_t store, bytes name not None, uint16_t qtype, unsigned int key_flags, bint is_denial,
        unsigned int kind, uint32_t ttl, body not None, size_t whole_size=0,
    ):
        """Keep a reply; whether there was room.

        `body` is a kdns.dns.compression.Body, `kind` rcode << 4 | flags, `whole_size` the octets of the body when no name
        in it is compressed.
        """
        cdef bytes octets
        cdef EntryHeader entry
        octets, answers, authorities, additionals, rotate_from, record_length = body[:6]
        memset(&entry, 0, sizeof(entry))
        if not 0 < PyBytes_GET_SIZE(name) <= MAX_NAME or PyBytes_GET_SIZE(octets) > MAX_BODY:
            raise ValueError(f"name of {len(name)} and body of {len(octets)} octets")
        entry.key = self._key(store, name, qtype, key_flags)
        entry.stored = self.clock() << 16 | <uint64_t> PyBytes_GET_SIZE(octets)
        entry.ttl = ttl
        entry.qtype = qtype
        entry.answers, entry.authorities, entry.additionals = answers, authorities, additionals
        if 0 < record_length <= MAX_RECORD:
            entry.rotate_from, entry.record_length = rotate_from, record_length
        entry.name_length = <uint8_t> PyBytes_GET_SIZE(name)
        entry.key_flags = <uint8_t> key_flags
        entry.kind = <uint8_t> kind
        if whole_size > <size_t> PyBytes_GET_SIZE(octets):
            entry.expansion = <uint16_t> min(<size_t> 0xFFFF, whole_size - <size_t> PyBytes_GET_SIZE(octets))
        return self.keep(
            store, &entry, LOG_DENIAL if is_denial else LOG_SUCCESS, <const uint8_t*> PyBytes_AS_STRING(name),
            <const uint8_t*> PyBytes_AS_STRING(octets),
        )

    def counts(self, uint64_t store):
        """Of a store, in this process's arena: (success entries, denial entries, evictions of either)."""
        cdef Arena* arena = self.arena(self.own)
        cdef unsigned int row
        for row in range(CACHE_ROWS):
            if arena.counts[row].store == store:
                return (
                    arena.counts[row].entries[LOG_SUCCESS], arena.counts[row].entries[LOG_DENIAL],
                    arena.counts[row].evictions[LOG_SUCCESS], arena.counts[row].evictions[LOG_DENIAL],
                )
        return 0, 0, 0, 0

    cdef bint keep(
        self, uint64_t store, EntryHeader* entry, unsigned int log, const uint8_t* name, const uint8_t* body
    ) noexcept nogil:
        """Add an entry, in an arena that nobody else is writing in; False where there was no room."""
        cdef unsigned int number = self.own, step
        cdef bint stored = False
        for step in range(self.arenas):
            if kdns_lock_try(&self.arena(number).lock):
                entry.row = <uint8_t> (self.row_of(self.arena(number), store) - self.arena(number).counts)
                stored = self.add(entry, number, log, name, body)
                pthread_mutex_unlock(&self.arena(number).lock)
                break
            number = (number + 1) % self.arenas
        return stored

    cdef bint add(
        self, const EntryHeader* entry, unsigned int number, unsigned int log, const uint8_t* name, const uint8_t* body
    ) noexcept nogil:
        """Append an entry and let a slot lead to it; False where it finds no place."""
        cdef uint64_t size = entry_size(entry), at
        cdef uint8_t* made = self.scratch
        if size > self.log_sizes[log] / LARGEST_SHARE:
            return False
        self.make_room(number, log, size)
        memcpy(made, entry, CACHE_HEADER)
        memcpy(made + CACHE_HEADER, name, entry.name_length)
        memcpy(made + CACHE_HEADER + entry.name_length, body, entry_body(entry))
        at = self.append(number, log, made, size)
        self.arena(number).counts[entry.row].entries[log] += 1
        return self.publish(entry.key, log, slot_value(entry.key, number, log, at))

    cdef void make_room(self, unsigned int number, unsigned int log, uint64_t size) noexcept nogil:
        """Drop the oldest entries until `size` octets fit at the head, in one piece."""
        cdef Log* ends = &self.arena(number).logs[log]
        cdef unsigned int kept = 0
        while ends.head + _padding(ends.head, size, self.log_sizes[log]) + size - ends.tail > self.log_sizes[log]:
            kept += self.drop_oldest(number, log, kept < MAX_KEPT)

    cdef bint drop_oldest(self, unsigned int number, unsigned int log, bint may_keep) noexcept nogil:
        """Take the entry at the tail away, or append it anew where it was used since; whether the latter was done."""
        cdef Arena* arena = self.arena(number)
        cdef Log* ends = &arena.logs[log]
        cdef uint64_t tail = ends.tail, offset = tail % self.log_sizes[log], left = self.log_sizes[log] - offset, size, value
        cdef uint64_t* slot
        cdef EntryHeader entry
        cdef bint is_kept = False
        if left < CACHE_HEADER:
            _set_tail(ends, tail + left)
            return False
        memcpy(&entry, self.ring(number, log) + offset, CACHE_HEADER)
        size = entry_size(&entry)
        if entry.key_flags & KEY_PAD or size > left:
            _set_tail(ends, tail + left)
            return False
        slot = self.slot_of(entry.key, slot_value(entry.key, number, log, tail))
        value = 0 if slot == NULL else kdns_peek(slot)
        if may_keep and is_used_slot(value) and entry_ttl(&entry, self.clock()) > 0:
            memcpy(self.scratch + SCRATCH, self.ring(number, log) + offset, size)
            is_kept = True
        _set_tail(ends, tail + size)
        if is_kept and ends.head + _padding(ends.head, size, self.log_sizes[log]) + size - ends.tail <= self.log_sizes[log]:
            tail = self.append(number, log, self.scratch + SCRATCH, size)
            kdns_swap(slot, value, slot_value(entry.key, number, log, tail))
            return True
        if slot != NULL:
            kdns_swap(slot, value, 0)
            arena.counts[entry.row].evictions[log] += 1
        arena.counts[entry.row].entries[log] -= 1
        return False

    cdef uint64_t append(self, unsigned int number, unsigned int log, const uint8_t* entry, uint64_t size) noexcept nogil:
        """Write an entry where nobody looks yet; its position. There is room."""
        cdef Log* ends = &self.arena(number).logs[log]
        cdef uint64_t head = ends.head, padding = _padding(head, size, self.log_sizes[log])
        cdef EntryHeader pad
        if padding >= CACHE_HEADER:
            memset(&pad, 0, CACHE_HEADER)
            pad.key_flags = KEY_PAD
            memcpy(self.ring(number, log) + head % self.log_sizes[log], &pad, CACHE_HEADER)
        head += padding
        memcpy(self.ring(number, log) + head % self.log_sizes[log], entry, size)
        kdns_store(&ends.head, head + size)
        return head

    cdef bint publish(self, uint64_t key, unsigned int log, uint64_t made) noexcept nogil:
        """Let a slot lead to a new entry: that of its predecessor, else a free one, else one that may be lost."""
        cdef uint64_t* bucket = self.index + CACHE_SLOTS * bucket_of(key, self.buckets)
        cdef uint64_t* chosen
        cdef uint64_t value, old
        cdef unsigned int turn, at, rank, best, start = <unsigned int> (key >> 40 & 7)
        for turn in range(MAX_SWAPS):
            chosen = NULL
            best = RANK_NONE
            old = 0
            for at in range(CACHE_SLOTS):
                value = kdns_load(bucket + ((start + at) & 7))
                rank = self.rank_of(value, key, log)
                if rank > best:
                    best, chosen, old = rank, bucket + ((start + at) & 7), value
                if rank == RANK_DENIED:     # an answer that comes after a denial ends it
                    kdns_swap(bucket + ((start + at) & 7), value, 0)
            if chosen == NULL:
                return False
            if kdns_swap(chosen, 0 if best == RANK_DENIED else old, made):
                if best != RANK_SAME and self.header.counts_uses:
                    kdns_store(self.uses + (chosen - self.index), 0)
                return True
        return False

    cdef unsigned int rank_of(self, uint64_t value, uint64_t key, unsigned int log) noexcept nogil:
        """How well a slot suits a new entry of this key."""
        cdef Found one
        cdef bint is_denial = is_denial_slot(value), is_used = is_used_slot(value)
        if value == 0 or not self.locate(value, &one):
            return RANK_FREE
        if slot_tag(value) == slot_tag(key) and self.read_slot(value, &one) and one.entry.key == key:
            if is_denial == (log == LOG_DENIAL):
                return RANK_SAME
            if is_denial:
                return RANK_DENIED
        if is_denial:
            return RANK_USED_DENIAL if is_used else RANK_DENIAL
        if log == LOG_DENIAL:
            return RANK_NONE
        return RANK_USED_ANSWER if is_used else RANK_ANSWER

    cdef uint64_t* slot_of(self, uint64_t key, uint64_t value) noexcept nogil:
        """The slot that leads to an entry, used or not; NULL where none does any more."""
        cdef uint64_t* bucket = self.index + CACHE_SLOTS * bucket_of(key, self.buckets)
        cdef unsigned int at
        for at in range(CACHE_SLOTS):
            if without_use(kdns_peek(bucket + at)) == value:
                return bucket + at
        return NULL

    cdef StoreCounts* row_of(self, Arena* arena, uint64_t store) noexcept nogil:
        """The counts of a store: those it has, or a free row, else the last."""
        cdef StoreCounts* free_row = NULL
        cdef unsigned int row
        for row in range(CACHE_ROWS):
            if arena.counts[row].store == store:
                return &arena.counts[row]
            if free_row == NULL and arena.counts[row].entries[LOG_SUCCESS] == 0 and (
                arena.counts[row].entries[LOG_DENIAL] == 0
            ):
                free_row = &arena.counts[row]
        if free_row == NULL:
            return &arena.counts[CACHE_ROWS - 1]
        memset(free_row, 0, sizeof(StoreCounts))
        free_row.store = store
        return free_row


cdef inline uint64_t _padding(uint64_t head, uint64_t size, uint64_t log_size) noexcept nogil:
    """Octets left out before an entry so that it does not cross the end of its ring."""
    cdef uint64_t left = log_size - head % log_size
    return left if size > left else 0


cdef inline void _set_tail(Log* ends, uint64_t tail) noexcept nogil:
    kdns_store(&ends.tail, tail)
    # Nothing that is written from here on is seen by who does not see the new tail.
    kdns_release_fence()
