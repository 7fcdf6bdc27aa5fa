# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Places in shared memory and in the metrics' row are compared with their lengths when they are made known.
"""Upstreams and the sockets to them, for forward.pyx.

A socket is connected, so the kernel hands up what comes from its upstream alone. Each upstream has a pool that grows by
a fresh port each time a socket is asked for, up to its size (1,024); from then on any of them is taken, at random.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from kdns.hotpath.meter cimport duration_bucket
from kdns.hotpath.upstream_io cimport (
    close, kdns_io_clock, kdns_io_open, kdns_io_prepare, kdns_io_random, kdns_io_start,
)

cdef enum:
    MAX_POOL = 1024             # sockets to an upstream
    DURATION_SUM = 17           # the number behind the buckets of a histogram of durations
    # Places in the memory the workers share; kdns/plugins/forward/shared.py.
    SHARED_COUNTER = 0
    SHARED_PROCESSES = 1
    # In the order of kdns/plugins/forward/policy.py.
    POLICY_RANDOM = 0
    POLICY_ROUND_ROBIN = 1

cdef double NANOSECONDS = 1e-9


cdef class Upstreams:
    """Whom one occurrence of `forward` asks, in one process."""

    def __cinit__(self, settings, places_of):
        cdef bytes source = settings.source
        self.places_of, self.owners = places_of, []
        self.watch = self.timer = -1
        if len(source) > MAX_PEER or not 0 < settings.pool_size <= MAX_POOL:
            raise ValueError(f"a source of {len(source)} octets, a pool of {settings.pool_size} sockets")
        memcpy(self.source, PyBytes_AS_STRING(source), len(source))
        self.source_length = len(source)
        self.expire = <uint64_t> (settings.expire * 1e9)
        self.max_age = <uint64_t> (settings.max_age * 1e9)
        self.pool_size, self.policy, self.limit = settings.pool_size, settings.policy, settings.limit
        self.max_fails, self.fails_fast = settings.max_fails, settings.fails_fast

    def __dealloc__(self):
        self.leave_upstreams()

    cdef take_sockets(self, shared, uint32_t first_cell, uint32_t cell):
        """Take memory and descriptors. Raises MemoryError, OSError."""
        cdef int64_t[::1] numbers = shared
        cdef uint32_t at
        if not 0 < cell < numbers.shape[0] or not 0 < first_cell <= cell:
            raise ValueError(f"cell {cell} of {numbers.shape[0]} numbers, the first is {first_cell}")
        self.shared, self.shared_count = &numbers[0], numbers.shape[0]
        self.first_cell, self.cell = first_cell, cell
        self.owners.append(numbers)
        self.sockets = <Socket*> calloc(MAX_SOCKETS, sizeof(Socket))
        self.free_sockets = <uint16_t*> calloc(MAX_SOCKETS, sizeof(uint16_t))
        self.upstreams = <Upstream*> calloc(MAX_UPSTREAMS, sizeof(Upstream))
        self.io = <kdns_upstream_io*> calloc(1, sizeof(kdns_upstream_io))
        if self.sockets == NULL or self.free_sockets == NULL or self.upstreams == NULL or self.io == NULL:
            raise MemoryError()
        for at in range(MAX_SOCKETS):
            self.free_sockets[at] = <uint16_t> (MAX_SOCKETS - 1 - at)
            self.sockets[at].fd = -1
        self.free_socket_count = MAX_SOCKETS
        kdns_io_prepare(self.io)
        self.watch = kdns_io_start(&self.timer)
        if self.watch < 0 or not kdns_io_random(self.secret, sizeof(self.secret)):
            raise OSError("no epoll descriptor, timer or random number to be had")
        self.random_state = self.secret[0] | 1

    cdef leave_upstreams(self):
        """Give it back. Idempotent."""
        cdef uint32_t at
        if self.sockets != NULL:
            for at in range(MAX_SOCKETS):
                if self.sockets[at].fd >= 0:
                    close(self.sockets[at].fd)
        if self.upstreams != NULL:
            for at in range(self.upstream_count):
                free(self.upstreams[at].pool)
        if self.watch >= 0:
            close(self.watch)
            close(self.timer)
        self.watch = self.timer = -1
        free(self.sockets)
        free(self.free_sockets)
        free(self.upstreams)
        free(self.io)
        self.sockets, self.free_sockets, self.upstreams, self.io = NULL, NULL, NULL, NULL
        self.upstream_count = self.order_count = 0
        self.is_armed = False

    def set_upstreams(self, upstreams, uint32_t unwanted, uint8_t attempts):
        """Ask these from now on: (socket address, place of its trouble in the shared numbers, place of whether it is
        out) each; what is under way to others is finished. Replies with the rcodes in `unwanted`, a bit each, are
        handed back; a question is sent so many times at most. False where there were too many upstreams.
        """
        cdef uint32_t at, known
        cdef bytes address
        cdef Upstream* one
        if not self.is_open:
            return False
        self.order_count = 0
        self.unwanted, self.attempts = unwanted, attempts
        for at, (address, trouble, out) in enumerate(upstreams):
            if not 0 < len(address) <= MAX_PEER or not (
                0 <= trouble < self.shared_count and 0 <= out < self.shared_count
            ):
                raise ValueError(f"an address of {len(address)} octets, known at {trouble} and {out}")
            for known in range(self.upstream_count):
                one = &self.upstreams[known]
                if one.address_length == len(address) and one.trouble == trouble and (
                    memcmp(one.address, PyBytes_AS_STRING(address), len(address)) == 0
                ):
                    break
            else:
                known = self.upstream_count
                if known == MAX_UPSTREAMS:
                    self.order_count = 0
                    return False
                one = &self.upstreams[known]
                one.pool = <uint16_t*> malloc(self.pool_size * sizeof(uint16_t))
                if one.pool == NULL:
                    raise MemoryError()
                memcpy(one.address, PyBytes_AS_STRING(address), len(address))
                one.address_length = <uint8_t> len(address)
                one.trouble, one.out = trouble, out
                self.upstream_count += 1
            self.order[at] = <uint8_t> known
            self.order_count = at + 1
        return True

    def close_idle(self):
        """Close sockets that have been idle for too long, and those of upstreams that are asked no more."""
        cdef uint32_t upstream, at, place
        cdef uint64_t now = kdns_io_clock()
        for upstream in range(self.upstream_count):
            place = self.upstreams[upstream].pooled
            while place:
                place -= 1
                at = self.upstreams[upstream].pool[place]
                if self.sockets[at].outstanding == 0 and self.has_expired(&self.sockets[at], now):
                    self.retire(at)

    cdef int upstream_at(self, uint8_t upstream):
        """Its place among those that are asked now; -1: it is asked no more."""
        cdef uint32_t at
        for at in range(self.order_count):
            if self.order[at] == upstream:
                return <int> at
        return -1

    cdef void learn(self, uint8_t upstream, int rcode) noexcept with gil:
        """Find out where an upstream's queries, or its replies with an rcode, are counted."""
        cdef Upstream* one = &self.upstreams[upstream]
        cdef int place = self.upstream_at(upstream)
        if place < 0 or self.numbers == NULL:
            return
        places = self.places_of(place, rcode)
        if not all(0 < place <= self.number_count - DURATION_SUM - 1 for place in places):
            raise ValueError(f"counters at {places}, the row has {self.number_count} numbers")
        if rcode >= 0:
            one.durations[0][rcode], one.durations[1][rcode], one.responses[rcode] = places
        else:
            one.requests, one.near_misses, one.hits[0], one.hits[1], one.misses[0], one.misses[1] = places
            one.is_counted = True

    cdef int rank(self, uint8_t upstream) noexcept nogil:
        """How an upstream is, as kdns.plugins.forward.upstream sees it."""
        cdef const Upstream* one = &self.upstreams[upstream]
        if self.shared[one.out]:
            return RANK_OUT
        if self.shared[one.trouble] == 0:
            return RANK_WELL
        return RANK_DOWN if 0 < self.max_fails < self.shared[one.trouble] - 1 else RANK_DOUBTED

    cdef int choose(self, const uint8_t* tried, unsigned int tries) noexcept nogil:
        """An upstream to ask: one that is well if there is any, else one in doubt; those tried only where no other is.

        With all of them down it is more likely that the checks fail than that nobody is left: then any. -1: nobody.
        """
        cdef int chosen = self.choose_of(RANK_WELL, tried, tries, self.policy)
        if chosen < 0:
            chosen = self.choose_of(RANK_DOUBTED, tried, tries, self.policy)
        if chosen < 0 and tries:
            chosen = self.choose(tried, 0)
        elif chosen < 0 and not self.fails_fast:
            chosen = self.choose_of(RANK_DOWN, tried, 0, POLICY_RANDOM)
            if chosen >= 0:
                self.count(self.broken)
        return chosen

    cdef int choose_of(self, int rank, const uint8_t* tried, unsigned int tries, uint32_t policy) noexcept nogil:
        """One of a rank that was not tried, as a policy says; -1: there is none."""
        cdef uint32_t step, start = 0, fitting = 0
        for step in range(self.order_count):
            fitting += self.fits(self.order[step], rank, tried, tries)
        if fitting == 0:
            return -1
        if policy == POLICY_ROUND_ROBIN and self.order_count > 1:
            start = <uint32_t> (self.shared[SHARED_COUNTER] % self.order_count)
            self.shared[SHARED_COUNTER] = (self.shared[SHARED_COUNTER] + 1) & <int64_t> 0xFFFFFFFFU
        fitting = <uint32_t> ((self.draw() >> 32) * fitting >> 32) if policy == POLICY_RANDOM else 0
        for step in range(start, start + self.order_count):
            if self.fits(self.order[step % self.order_count], rank, tried, tries):
                if fitting == 0:
                    return self.order[step % self.order_count]
                fitting -= 1
        return -1           # another process has found out more since they were counted

    cdef bint fits(self, uint8_t upstream, int rank, const uint8_t* tried, unsigned int tries) noexcept nogil:
        cdef unsigned int at
        for at in range(tries):
            if tried[at] == upstream:
                return False
        return self.rank(upstream) == rank

    cdef void count(self, uint32_t place) noexcept nogil:
        """Add one to a counter of the registry's row, if it is known."""
        if 0 < place < self.number_count:
            self.numbers[place] += 1

    cdef bint enter(self) noexcept nogil:
        """Count a query in, unless all workers together have as many as they may."""
        cdef int64_t total = 0
        cdef Py_ssize_t at
        if self.limit == 0:
            return True
        for at in range(self.shared[SHARED_PROCESSES]):
            if self.first_cell + at >= self.shared_count:
                return False
            total += self.shared[self.first_cell + at]
        if total >= self.limit:
            return False
        self.shared[self.cell] += 1
        return True

    cdef int pick(self, uint8_t upstream, bint* is_new) noexcept nogil:
        """A socket of an upstream's: a new one until there are enough, else any; -1 where there is none."""
        cdef Upstream* one = &self.upstreams[upstream]
        cdef uint64_t now = kdns_io_clock()
        cdef uint32_t number
        cdef int made
        while one.pooled == self.pool_size:
            number = one.pool[self.random() % one.pooled]
            if not self.has_expired(&self.sockets[number], now):
                return <int> number
            self.retire(number)
        made = self.open_socket(upstream)
        is_new[0] = made >= 0
        if made < 0 and one.pooled:     # where descriptors are short, a port again is better than no answer
            return one.pool[self.random() % one.pooled]
        return made

    cdef int open_socket(self, uint8_t upstream) noexcept nogil:
        """A socket of a fresh port, in its upstream's pool; -1 where there is none to be had."""
        cdef Upstream* one = &self.upstreams[upstream]
        cdef uint32_t number
        cdef Socket* made
        if one.pooled == self.pool_size or self.free_socket_count == 0:
            return -1
        number = self.free_sockets[self.free_socket_count - 1]
        made = &self.sockets[number]
        made.fd = kdns_io_open(
            self.watch, number, one.address, one.address_length, self.source, self.source_length
        )
        if made.fd < 0:
            return -1
        self.free_socket_count -= 1
        made.opened = made.used = kdns_io_clock()
        made.outstanding = made.near_misses = made.is_retired = 0
        made.upstream = upstream
        made.place = <uint16_t> one.pooled
        one.pool[one.pooled] = <uint16_t> number
        one.pooled += 1
        return <int> number

    cdef bint has_expired(self, const Socket* one, uint64_t now) noexcept nogil:
        return now - one.used > self.expire or (self.max_age and now - one.opened > self.max_age)

    cdef void retire(self, uint32_t number) noexcept nogil:
        """Send nothing over a socket any more; it is closed once nothing is under way over it."""
        cdef Socket* one = &self.sockets[number]
        cdef Upstream* upstream = &self.upstreams[one.upstream]
        if not one.is_retired:
            one.is_retired = True
            upstream.pooled -= 1
            upstream.pool[one.place] = upstream.pool[upstream.pooled]
            self.sockets[upstream.pool[one.place]].place = one.place
        if one.outstanding == 0 and one.fd >= 0:
            close(one.fd)
            one.fd = -1
            self.free_sockets[self.free_socket_count] = <uint16_t> number
            self.free_socket_count += 1

    cdef void note_reply(self, uint8_t number, uint64_t started, unsigned int rcode) noexcept nogil:
        """Count a reply."""
        cdef Upstream* upstream = &self.upstreams[number]
        cdef uint64_t took = kdns_io_clock() - started
        cdef int at
        if rcode >= RCODES:
            return
        if upstream.responses[rcode] == 0:
            self.learn(number, <int> rcode)
            if upstream.responses[rcode] == 0:
                return
        for at in range(2):
            self.numbers[upstream.durations[at][rcode] + duration_bucket(took)] += 1
            self.numbers[upstream.durations[at][rcode] + DURATION_SUM] += took * NANOSECONDS
        self.numbers[upstream.responses[rcode]] += 1

    cdef uint32_t random(self) noexcept nogil:
        """A number nobody can foresee, of the kernel's generator."""
        if self.stock_left == 0:
            if not kdns_io_random(self.stock, sizeof(self.stock)):
                return <uint32_t> self.draw()   # Linux has them from early on in its start
            self.stock_left = STOCK
        self.stock_left -= 1
        return self.stock[self.stock_left]

    cdef uint64_t draw(self) noexcept nogil:
        """A number that spreads load and guards nothing (xorshift64*)."""
        self.random_state ^= self.random_state >> 12
        self.random_state ^= self.random_state << 25
        self.random_state ^= self.random_state >> 27
        return self.random_state * 0x2545F4914F6CDD1DULL
