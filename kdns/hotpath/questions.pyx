# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Numbers of questions and clients come from this module's own lists.
"""Questions under way to upstreams and the clients that wait for their answers, for forward.pyx.

    asked    question under way: name, id, socket, when    waiter   client: address, datagram
      by_key  equal questions are asked once; all who ask    ^ chained from the question
      by_id   (socket, id) of an answer to its question

All memory is taken at the start, and so are all limits. A forged answer must name a question that is under way, and the
one port and the one id it was asked with, whatever else leaves by that port: no two questions under way share both, and
ids come from the kernel's generator.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from kdns.hotpath.atomics cimport kdns_fold
from kdns.hotpath.upstream_io cimport kdns_io_arm, kdns_io_clock

cdef enum:
    MAX_DRAWS = 64              # ids drawn for a query before it is left to the slow path

cdef class Questions(Upstreams):
    """What one occurrence of `forward` has under way on the compiled path, in one process."""

    def __cinit__(self, settings, places_of):
        self.timeout = <uint64_t> (settings.timeout * 1e9)

    def __dealloc__(self):
        self.forget_questions()

    cdef take_questions(self):
        """Take memory. Raises MemoryError."""
        cdef uint32_t at
        self.waiters = <Waiter*> calloc(MAX_WAITING + SPARE_WAITERS, sizeof(Waiter))
        self.asked = <Asked*> calloc(MAX_ASKED, sizeof(Asked))
        self.by_key = <uint16_t*> calloc(2 * BUCKETS, sizeof(uint16_t))
        self.free_waiters = <uint16_t*> calloc(MAX_WAITING + MAX_ASKED, sizeof(uint16_t))
        if self.waiters == NULL or self.asked == NULL or self.by_key == NULL or self.free_waiters == NULL:
            raise MemoryError()
        self.by_id = self.by_key + BUCKETS
        self.free_asked = self.free_waiters + MAX_WAITING
        # Low numbers are taken first: memory that was used is used again.
        for at in range(MAX_WAITING):
            self.free_waiters[at] = <uint16_t> (MAX_WAITING - 1 - at)
        for at in range(MAX_ASKED):
            self.free_asked[at] = <uint16_t> (MAX_ASKED - 1 - at)
        self.free_waiter_count, self.free_asked_count = MAX_WAITING, MAX_ASKED

    cdef forget_questions(self):
        """Give it back. Idempotent."""
        free(self.waiters)
        free(self.asked)
        free(self.by_key)
        free(self.free_waiters)
        self.waiters, self.asked, self.by_key, self.free_waiters = NULL, NULL, NULL, NULL
        self.oldest = self.newest = 0
        self.waiting = 0

    cdef void join(
        self, uint16_t number, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil:
        """Let a client wait for the answer to a question."""
        cdef Asked* one = &self.asked[number]
        cdef uint16_t waiter
        self.free_waiter_count -= 1
        waiter = self.free_waiters[self.free_waiter_count]
        self.note_client(
            &self.waiters[waiter], route, client, packet, length, peer, peer_length, control, control_length, now, query
        )
        if one.last:
            self.waiters[one.last - 1].next = waiter + 1
        else:
            one.first = waiter + 1
        one.last = waiter + 1
        one.waiters += 1
        self.waiting += 1

    cdef void note_client(
        self, Waiter* made, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil:
        """Write down who asks."""
        made.route, made.client, made.arrived, made.next = route, client, now, 0
        made.length, made.question_end = <uint16_t> length, query.question_end
        made.payload_size, made.has_edns, made.dnssec_ok = query.payload_size, query.has_edns, query.dnssec_ok
        made.peer_length, made.control_length = <uint8_t> peer_length, <uint8_t> control_length
        memcpy(made.peer, peer, peer_length)
        if control_length:
            memcpy(made.control, control, control_length)
        memcpy(made.datagram, packet, length)

    cdef uint64_t variant_of(self, const Route* route, const uint8_t* packet, const Query* query) noexcept nogil:
        """What besides the question makes the answers differ: what is kept goes by less than what is not."""
        cdef uint64_t variant = query.dnssec_ok | <uint64_t> (packet[3] & 0x10)
        if route.cache.store == 0:
            variant |= <uint64_t> (packet[2] & 1) << 1 | <uint64_t> (packet[3] & 0x20) | (
                <uint64_t> query.has_edns << 6 | <uint64_t> min(query.payload_size, route.payload_limit) << 8
            )
        return variant

    cdef uint64_t key_of(self, const Query* query, uint64_t variant) noexcept nogil:
        cdef uint64_t state = self.secret[0] ^ variant ^ (<uint64_t> query.qtype << 40), word
        cdef unsigned int at
        for at in range(0, query.name_length, 8):
            memcpy(&word, query.name + at, 8)
            state = kdns_fold(state ^ word, self.secret[1] | 1)
        return kdns_fold(state, self.secret[0] | 1)

    cdef uint16_t find(self, uint64_t key, const Route* route, uint64_t variant, const Query* query) noexcept nogil:
        """The number of an equal question under way, + 1; 0: there is none."""
        cdef uint16_t number = self.by_key[key & (BUCKETS - 1)]
        cdef const Asked* one
        while number:
            one = &self.asked[number - 1]
            if (
                one.key == key and one.variant == variant and one.store == route.cache.store
                and one.qtype == query.qtype and one.name_length == query.name_length
                and memcmp(one.name, query.name, query.name_length) == 0
            ):
                return number
            number = one.next_key
        return 0

    cdef bint draw_id(self, uint16_t number, const uint16_t* group, int at) noexcept nogil:
        """Give a question an id that none has whose answer may come to the same socket."""
        cdef Asked* one = &self.asked[group[at]]
        cdef int turn, before
        for turn in range(MAX_DRAWS):
            one.id = <uint16_t> self.random()
            if self.find_id(number, one.id):
                continue
            for before in range(at):
                if self.asked[group[before]].id == one.id:
                    break
            else:
                return True
        return False

    cdef uint16_t find_id(self, uint16_t socket, uint16_t id) noexcept nogil:
        """The number of the question that was asked over a socket with this id, + 1."""
        cdef uint16_t number = self.by_id[_id_bucket(socket, id)]
        while number and (self.asked[number - 1].id != id or self.asked[number - 1].socket != socket):
            number = self.asked[number - 1].next_id
        return number

    cdef void note_sent(self, uint16_t number, uint16_t socket, uint64_t now) noexcept nogil:
        cdef Asked* one = &self.asked[number]
        cdef uint32_t bucket = _id_bucket(socket, one.id)
        one.socket, one.started, one.is_sent = socket, now, True
        if one.tries == 0:
            one.began = now
        if one.tries < MAX_TRIES:
            one.tried[one.tries] = one.upstream
            one.tries += 1
        one.next_id = self.by_id[bucket]
        self.by_id[bucket] = number + 1
        one.older, one.newer = self.newest, 0
        if self.newest:
            self.asked[self.newest - 1].newer = number + 1
        else:
            self.oldest = number + 1
        self.newest = number + 1
        self.sockets[socket].outstanding += 1
        self.sockets[socket].used = now
        if not self.is_armed:
            kdns_io_arm(self.timer, now + self.timeout)
            self.is_armed = True

    cdef void unlink(self, uint16_t number) noexcept nogil:
        """Let nothing lead to a question any more."""
        cdef Asked* one = &self.asked[number]
        cdef uint16_t* link = &self.by_key[one.key & (BUCKETS - 1)]
        while link[0] and link[0] != number + 1:
            link = &self.asked[link[0] - 1].next_key
        link[0] = one.next_key
        if self.limit:
            self.shared[self.cell] -= 1 if one.store else one.waiters
        self.unsend(number)

    cdef void unsend(self, uint16_t number) noexcept nogil:
        """Believe no answer to a question any more; who asks the same joins it yet."""
        cdef Asked* one = &self.asked[number]
        cdef uint16_t* link
        if not one.is_sent:
            return
        link = &self.by_id[_id_bucket(one.socket, one.id)]
        while link[0] and link[0] != number + 1:
            link = &self.asked[link[0] - 1].next_id
        link[0] = one.next_id
        if one.older:
            self.asked[one.older - 1].newer = one.newer
        else:
            self.oldest = one.newer
        if one.newer:
            self.asked[one.newer - 1].older = one.older
        else:
            self.newest = one.older
        one.is_sent = False
        self.sockets[one.socket].outstanding -= 1
        if self.sockets[one.socket].outstanding == 0:
            self.sockets[one.socket].near_misses = 0
            if self.sockets[one.socket].is_retired:
                self.retire(one.socket)

    cdef void release(self, uint16_t number) noexcept nogil:
        """Let a question's place and those of its clients be taken again; replies to these may be unsent yet."""
        cdef uint16_t waiter = self.asked[number].first
        while waiter:
            self.free_waiters[self.free_waiter_count] = waiter - 1
            self.free_waiter_count += 1
            self.waiting -= 1
            waiter = self.waiters[waiter - 1].next
        self.free_asked[self.free_asked_count] = number
        self.free_asked_count += 1


cdef inline uint32_t _id_bucket(uint32_t socket, uint32_t id) noexcept nogil:
    return (id ^ socket * 0x9E3B) & (BUCKETS - 1)
