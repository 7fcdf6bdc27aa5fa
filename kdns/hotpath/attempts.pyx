# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Numbers of questions, clients and sockets come from this module's own lists and questions.pyx's.
"""Attempts at questions under way, for forward.pyx: sending them, and what becomes of those that fail.

A question that got no answer is asked again, of another upstream where there is one, while `attempts` and the time a
query may take allow; then it is the slow path's, which knows what else there is to try and tells of the failure. That
takes a hundred times as long as anything here. So only so many failures go there in a second; where more fail than that
nothing works at all, and the clients are told so at once.
"""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from kdns.hotpath.questions cimport MAX_ASKED, MAX_TRIES, Asked, Questions, Waiter
from kdns.hotpath.upstream_io cimport KDNS_ASKED_BATCH, kdns_io_arm, kdns_io_ask, kdns_io_clock, kdns_io_set_question
from kdns.hotpath.upstreams cimport Upstream
from kdns.hotpath.wire cimport HEADER_SIZE, put_u16

cdef enum:
    TICK = 20_000_000           # ns between two looks at who is late
    SECOND = 1_000_000_000      # ns
    LEFT_A_SECOND = 20          # failed queries the slow path gets in a second: well below a percent of its time
    OPT_SIZE = 11
    TYPE_OPT = 41

cdef double NANOSECONDS = 1e-9


class HandedBack(NamedTuple):
    """A question that goes the slow path after all, and the datagrams that ask it."""

    reason: int
    upstreams: list             # that it was sent to, in the order of set_upstreams; -1: one that is asked no more
    began: float                # on time.monotonic()'s clock
    name: bytes                 # lower case
    qtype: int
    datagrams: list             # (receiver, message, peer, control)


cdef class Attempts(Questions):
    """What one occurrence of `forward` sends on the compiled path, in one process.

    `on_handed_back(list of HandedBack)` gets what goes the slow path; `on_failing(upstream)` is told of an upstream, by
    its place in the order of set_upstreams, that has not answered a question.
    """

    def __cinit__(self, settings, places_of):
        self.receivers = []
        self.budget = <uint64_t> (settings.budget * 1e9)

    def __dealloc__(self):
        self.forget_attempts()

    cdef take_attempts(self):
        """Take memory. Raises MemoryError."""
        self.handed = <uint16_t*> calloc(4 * MAX_ASKED, sizeof(uint16_t))
        if self.handed == NULL:
            raise MemoryError()
        self.again, self.failed = self.handed + MAX_ASKED, self.handed + 2 * MAX_ASKED
        self.sending = self.handed + 3 * MAX_ASKED

    cdef forget_attempts(self):
        """Give it back. Idempotent."""
        free(self.handed)
        self.handed, self.again, self.failed, self.sending = NULL, NULL, NULL, NULL
        self.handed_count = self.again_count = self.failed_count = 0

    cdef give_back(self):
        """Hand back what was put aside for the slow path, and tell who has not answered."""
        cdef uint32_t at
        cdef int place
        cdef uint16_t number, waiter
        cdef Asked* one
        cdef Waiter* client
        cdef list made
        if self.has_failing:
            self.has_failing = False
            for at in range(self.upstream_count):
                if self.failing[at]:
                    self.failing[at] = False
                    place = self.upstream_at(<uint8_t> at)
                    if place >= 0 and self.on_failing is not None:
                        self.on_failing(place)
        if self.handed_count == 0:
            return
        handed = []
        for at in range(self.handed_count):
            number = self.handed[at]
            one = &self.asked[number]
            made = []
            waiter = one.first
            while waiter:
                client = &self.waiters[waiter - 1]
                made.append((
                    self.receivers[client.client],
                    PyBytes_FromStringAndSize(<char*> client.datagram, client.length),
                    PyBytes_FromStringAndSize(<char*> client.peer, client.peer_length),
                    PyBytes_FromStringAndSize(<char*> client.control, client.control_length),
                ))
                waiter = client.next
            handed.append(HandedBack(
                one.reason, [self.upstream_at(one.tried[tried]) for tried in range(one.tries)], one.began * NANOSECONDS,
                PyBytes_FromStringAndSize(<char*> one.name, one.name_length), one.qtype, made,
            ))
            self.release(number)
        self.handed_count = 0
        if self.on_handed_back is not None:
            self.on_handed_back(handed)

    # Sending

    cdef void send(self, uint16_t* numbers, uint32_t count) noexcept nogil:
        """Send questions, each to its upstream; `numbers` is used up."""
        cdef uint16_t group[64]             # KDNS_ASKED_BATCH
        cdef uint32_t at, left
        cdef int size
        cdef uint8_t upstream
        while count:
            upstream = self.asked[numbers[0]].upstream
            left = 0
            size = 0
            for at in range(count):
                if size < KDNS_ASKED_BATCH and self.asked[numbers[at]].upstream == upstream:
                    group[size] = numbers[at]
                    size += 1
                else:
                    numbers[left] = numbers[at]
                    left += 1
            count = left
            self.ask(upstream, group, size)

    cdef void send_again(self) noexcept nogil:
        """Send what an attempt failed for."""
        cdef uint16_t* numbers
        cdef uint32_t count
        # Sending may fail others, so it ends only because each question is sent so many times at most.
        while self.again_count:
            count, numbers = self.again_count, self.again
            self.again, self.sending, self.again_count = self.sending, numbers, 0
            self.send(numbers, count)

    cdef void ask(self, uint8_t upstream, uint16_t* group, int count) noexcept nogil:
        """Send questions to an upstream, all over one socket."""
        cdef bint is_new = False
        cdef int at, got, drawn = 0, sent = 0
        cdef int number = self.pick(upstream, &is_new)
        cdef uint64_t now = kdns_io_clock()
        cdef Upstream* one = &self.upstreams[upstream]
        if not one.is_counted:
            self.learn(upstream, -1)
        if number >= 0:
            while drawn < count and self.draw_id(<uint16_t> number, group, drawn):
                self.write_question(group[drawn], drawn)
                drawn += 1
        while number >= 0 and sent < drawn:
            got = kdns_io_ask(self.sockets[number].fd, self.io, sent, drawn)
            if got > 0:
                for at in range(sent, sent + got):
                    self.note_sent(group[at], <uint16_t> number, now)
                sent += got
                continue
            if is_new:
                break
            # Something has come of an earlier query since: that is not these queries' trouble.
            self.fail_socket(<uint32_t> number)
            is_new = True
            number = self.open_socket(upstream)
        if one.is_counted:
            self.numbers[one.requests] += sent
            for at in range(2):
                self.numbers[one.misses[at]] += is_new and sent > 0
                self.numbers[one.hits[at]] += sent - (is_new and sent > 0)
        for at in range(sent, count):
            self.lose(group[at], REASON_UNSENT)

    cdef void write_question(self, uint16_t number, int at) noexcept nogil:
        """Write a query as kdns.plugins.forward.question.render_query does, into place `at` of the batch."""
        cdef const Asked* one = &self.asked[number]
        cdef const Waiter* client = &self.waiters[one.first - 1]
        cdef uint8_t* out = self.io.question[at]
        cdef size_t size = client.question_end
        memset(out, 0, HEADER_SIZE)
        put_u16(out, one.id)
        out[2] = client.datagram[2] & 0x01
        # Whoever keeps replies asks whether they were validated (RFC 6840, 5.7).
        out[3] = (client.datagram[3] & 0x30) | (0x20 if one.store else 0)
        out[5] = 1
        memcpy(out + HEADER_SIZE, client.datagram + HEADER_SIZE, size - HEADER_SIZE)
        if client.has_edns:
            out[11] = 1
            memset(out + size, 0, OPT_SIZE)
            out[size + 2] = TYPE_OPT
            put_u16(out + size + 3, min(client.payload_size, client.route.payload_limit))
            out[size + 7] = client.dnssec_ok << 7
            size += OPT_SIZE
        kdns_io_set_question(self.io, at, size)

    # Failing

    cdef void fail_socket(self, uint32_t number, int reason=REASON_FAILED) noexcept nogil:
        """Close a socket; what is under way over it was in vain."""
        cdef uint16_t at = self.oldest, newer
        self.retire(number)
        while at and self.sockets[number].outstanding:
            newer = self.asked[at - 1].newer
            if self.asked[at - 1].socket == number:
                self.lose(at - 1, reason)
            at = newer

    cdef void expire_old(self) noexcept nogil:
        """See to what was not answered in time; an answer may come yet, so its socket is used no more."""
        cdef uint64_t now
        if self.oldest and not self.is_armed:
            now = kdns_io_clock()
            while self.oldest and self.asked[self.oldest - 1].started + self.timeout <= now:
                self.retire(self.asked[self.oldest - 1].socket)
                self.lose(self.oldest - 1, REASON_TIMEOUT)
            if self.oldest:
                kdns_io_arm(self.timer, max(self.asked[self.oldest - 1].started + self.timeout, now + TICK))
                self.is_armed = True

    cdef void lose(self, uint16_t number, int reason) noexcept nogil:
        """See to a question to which no answer came: it is asked again, or left to the slow path, or given up."""
        cdef Asked* one = &self.asked[number]
        cdef int upstream
        if reason == REASON_SUSPECT:    # somebody guesses: over TCP nobody can
            self.hand_back(number, reason)
            return
        self.failing[one.upstream] = True
        self.has_failing = True
        if (
            reason != REASON_UNSENT and one.tries < min(self.attempts, MAX_TRIES)
            and kdns_io_clock() + self.timeout <= one.began + self.budget
        ):
            upstream = self.choose(one.tried, one.tries)
            if upstream >= 0:
                self.unsend(number)
                one.upstream = <uint8_t> upstream
                self.again[self.again_count] = number
                self.again_count += 1
                return
        if self.may_leave(one.waiters):
            self.hand_back(number, reason)
            return
        self.unlink(number)
        self.failed[self.failed_count] = number
        self.failed_count += 1

    cdef void hand_back(self, uint16_t number, int reason) noexcept nogil:
        self.unlink(number)
        self.asked[number].reason = <uint8_t> reason
        self.handed[self.handed_count] = number
        self.handed_count += 1

    cdef bint may_leave(self, uint32_t queries) noexcept nogil:
        """Whether the slow path can take so many more queries for which there is no answer."""
        cdef uint64_t now = kdns_io_clock()
        if now - self.refilled > SECOND:
            self.refilled, self.left = now, LEFT_A_SECOND
        if self.left == 0:
            return False
        self.left -= min(self.left, queries)
        return True
