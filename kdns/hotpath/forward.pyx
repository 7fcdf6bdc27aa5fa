# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Numbers of questions, clients and sockets come from this module's own lists; datagrams are read by wire.parse() and
# walker.walk(), which check them.
"""Plain forwarding over UDP: a client's datagram to an upstream, and the answer back, without a Python object.

An Engine takes over what a listener would leave to the slow path, where nothing about it is unusual, and hands back
whatever turns out to be: the client's datagram goes the slow path then, which knows what was spent on it.

Queries of one batch share a socket (upstreams.pyx), so one system call asks for all of them, and one reads their
answers. That costs nothing in safety (questions.pyx). A socket at which five datagrams have come that answer nothing, or
at which an answer did not come in time, is used no more.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from libc.time cimport time

from kdns.hotpath.answer cimport OUTCOME_DROP_UNSENT, Responder, Route
from kdns.hotpath.attempts cimport REASON_REPLIED, REASON_SUSPECT, REASON_TRUNCATED
from kdns.hotpath.cache cimport AnswerCache
from kdns.hotpath.cached cimport Taken, copy_sections
from kdns.hotpath.datagrams cimport kdns_send_batch
from kdns.hotpath.detours cimport is_detour
from kdns.hotpath.meter cimport WRITER_FORWARD, WRITER_SERVER, Seen
from kdns.hotpath.questions cimport BUCKETS, MAX_CONTROL, MAX_QUERY, MAX_WAITING, Asked, Waiter
from kdns.hotpath.upstream_io cimport (
    KDNS_ASKED_BATCH, KDNS_EVENTS, KDNS_TIMER, kdns_io_clock, kdns_io_event, kdns_io_is_v6, kdns_io_length,
    kdns_io_rang, kdns_io_read, kdns_io_set_reply, kdns_io_wait,
)
from kdns.hotpath.upstreams cimport MAX_PEER, RCODES, Socket
from kdns.hotpath.verdict cimport Question, Verdict, judge, keep
from kdns.hotpath.walker cimport Walked, walk
from kdns.hotpath.wire cimport HEADER_SIZE, NAME_BUFFER, VERDICT_QUERY, Query, parse, put_u16

from kdns.hotpath.attempts import HandedBack

__all__ = ["Engine", "HandedBack"]

cdef enum:
    MAX_WAITERS = 1000          # for one question; who comes later goes the slow path
    MAX_NEAR_MISSES = 5         # datagrams at a socket that answer nothing; then somebody is guessing
    MAX_ROUNDS = 16             # of events served in a turn, so that others get theirs
    UDP_LIMIT = 1232            # octets of a reply
    MIN_UDP_PAYLOAD = 512       # octets; a client that advertises less still gets this (RFC 6891, 6.2.3)
    OPT_SIZE = 11
    TYPE_OPT = 41
    TYPE_HINFO = 13             # `loop` looks at these
    TYPE_IXFR = 251
    TYPE_AXFR = 252
    TYPE_ANY = 255
    # EDNS options that are not handed on (HOP_BY_HOP of kdns.dns.codes).
    OPTION_COOKIE = 10
    OPTION_KEEPALIVE = 11
    OPTION_PADDING = 12
    FLAG_AUTHORITATIVE = 0x0400
    FLAG_TRUNCATED = 0x0200
    FLAG_RECURSION = 0x0080
    FLAG_AUTHENTIC = 0x0020
    FLAG_CHECKING_DISABLED = 0x0010
    RCODE_SERVFAIL = 2
    RCODE_REFUSED = 5


cdef class Engine(Attempts):
    """Forwards for one occurrence of `forward`, in one process.

    `settings` is a kdns.plugins.forward.compiled.Settings; `places_of(upstream, rcode)` gives the places in the
    registry's row where an upstream's queries (rcode -1), or its replies with an rcode, are counted.
    """

    def __cinit__(self, settings, places_of):
        self.hands_back_empty, self.hands_back_truncated = settings.hands_back_empty, settings.hands_back_truncated
        if settings.rules is not None:
            self.has_rules = True
            (
                self.rules.least_success, self.rules.most_success, self.rules.least_denial, self.rules.most_denial,
                self.rules.servfail,
            ) = settings.rules

    def __dealloc__(self):
        free(self.names)

    @property
    def keeps(self):
        """Whether it follows the rules of a `cache`."""
        return self.has_rules

    def fileno(self):
        """What becomes readable when receive() is to be called."""
        return self.watch

    def start(self, shared not None, uint32_t first_cell, uint32_t cell, uint32_t refusals, uint32_t broken):
        """Take memory and descriptors; in the process that uses them. Raises MemoryError, OSError.

        `shared` are the numbers of kdns.plugins.forward.shared. In the registry's row, `refusals` is the place where
        queries are counted that were more than the limit, `broken` those for which all upstreams were down.
        """
        if self.is_open:
            return
        self.refusals, self.broken = refusals, broken
        try:
            self.take_sockets(shared, first_cell, cell)
            self.take_questions()
            self.take_attempts()
            if self.names == NULL:
                self.names = <Names*> calloc(1, sizeof(Names))
            if self.names == NULL:
                raise MemoryError()
        except BaseException:
            self.close()
            raise
        self.is_open = True

    def close(self):
        """Give everything back; who waits gets no answer. Idempotent."""
        self.is_open = False
        self.outbox_count = self.replies = 0
        self.forget_attempts()
        self.forget_questions()
        self.leave_upstreams()

    def add_client(self, int fd, Responder responder not None, receiver not None):
        """Answer at a socket clients ask at; its number. `receiver(message, peer, control)` gets what is handed back."""
        cdef Py_ssize_t number = len(self.receivers)
        if number == MAX_CLIENTS:
            raise ValueError(f"more than {MAX_CLIENTS} sockets")
        if self.has_rules and not isinstance(responder.cache, AnswerCache):
            raise ValueError("rules of a cache, and no memory to keep replies in")
        self.client_fds[number] = fd
        self.unsent[number] = &responder.counters[<int> OUTCOME_DROP_UNSENT]
        self.receivers.append(receiver)
        self.owners.append(responder)
        self.numbers, self.meters = responder.numbers, responder.meters
        self.number_count = len(responder.numbers_owner)
        self.cache = responder.cache if self.has_rules else None
        return number

    def receive(self):
        """Read what upstreams have sent, answer clients, and see who has waited for too long."""
        if not self.is_open:
            return
        with nogil:
            self.read_sockets()
            self.send_again()
            self.tell_failed()
            self.send_replies()
        self.give_back()

    cdef bint take_over(
        self, const Route* route, uint32_t client, const uint8_t* packet, size_t length, const void* peer,
        size_t peer_length, const void* control, size_t control_length, uint64_t now,
    ) noexcept:
        """See to a datagram that Responder found open; False where it must go the slow path. flush() sends it."""
        cdef Query query
        cdef uint64_t key, variant
        cdef uint16_t number
        cdef int upstream = -1
        cdef unsigned int rcode = 0
        cdef Asked* one
        if self.outbox_count == KDNS_ASKED_BATCH or not self.is_open or length > MAX_QUERY or peer_length > MAX_PEER or control_length > MAX_CONTROL:
            return False
        if parse(packet, <Py_ssize_t> length, &query) != VERDICT_QUERY or not _is_plain(packet, length, &query):
            return False
        if min(<size_t> route.forward_limit, <size_t> query.payload_size) > UDP_LIMIT:
            return False                # the client takes more than there is room for here
        if route.forward_detours != NULL and is_detour(route.forward_detours, query.name, query.name_length):
            return False
        variant = self.variant_of(route, packet, &query)
        key = self.key_of(&query, variant ^ route.cache.store)
        number = self.find(key, route, variant, &query)
        if number == 0:
            upstream = self.choose(NULL, 0)
            if upstream < 0 and self.order_count == 0:
                return False
        if self.free_waiter_count == 0 or (
            self.asked[number - 1].waiters >= MAX_WAITERS if number else upstream < 0 or self.free_asked_count == 0
        ):
            rcode = RCODE_SERVFAIL
        elif (number == 0 or route.cache.store == 0) and not self.enter():
            rcode = RCODE_REFUSED
        if rcode:
            if self.may_leave(1):
                return False
            if number == 0 and upstream < 0 and self.fails_fast:
                self.count(self.broken)
            self.turn_down(
                rcode, route, client, packet, length, peer, peer_length, control, control_length, now, &query
            )
            return True
        if number:
            self.join(number - 1, route, client, packet, length, peer, peer_length, control, control_length, now, &query)
            return True
        self.free_asked_count -= 1
        number = self.free_asked[self.free_asked_count]
        one = &self.asked[number]
        memset(one, 0, sizeof(Asked) - sizeof(one.name))
        one.key, one.variant, one.store, one.started = key, variant, route.cache.store, now
        one.qtype, one.name_length, one.upstream = query.qtype, query.name_length, <uint8_t> upstream
        one.dnssec_ok, one.checking_disabled = query.dnssec_ok, packet[3] >> 4 & 1
        memcpy(one.name, query.name, NAME_BUFFER)
        one.next_key = self.by_key[key & (BUCKETS - 1)]
        self.by_key[key & (BUCKETS - 1)] = number + 1
        self.join(number, route, client, packet, length, peer, peer_length, control, control_length, now, &query)
        self.outbox[self.outbox_count] = number
        self.outbox_count += 1
        return True

    cdef flush(self):
        """Send what take_over() has put aside, and what it has answered."""
        cdef uint32_t count = self.outbox_count
        self.outbox_count = 0
        with nogil:
            self.send(self.outbox, count)
            self.send_again()
            self.tell_failed()
            self.send_replies()
        self.give_back()

    cdef void read_sockets(self) noexcept nogil:
        cdef int turn, count, at
        cdef uint32_t number
        for turn in range(MAX_ROUNDS):
            count = kdns_io_wait(self.watch, self.io)
            for at in range(count):
                number = kdns_io_event(self.io, at)
                if number == KDNS_TIMER:
                    self.is_armed = False
                    kdns_io_rang(self.timer)
                elif self.sockets[number].fd >= 0:
                    self.read_socket(number)
            self.send_replies()
            if count < KDNS_EVENTS:
                break
        self.expire_old()

    cdef void read_socket(self, uint32_t number) noexcept nogil:
        """Take one batch of datagrams in; where there are more the socket stays readable."""
        cdef int at, count = kdns_io_read(self.sockets[number].fd, self.io)
        if count < 0:
            self.fail_socket(number)
        for at in range(count):
            if self.sockets[number].fd < 0:
                break
            self.read_datagram(number, self.io.answer[at], kdns_io_length(self.io, at))
        if self.sockets[number].fd >= 0 and self.sockets[number].is_retired:
            self.retire(number)

    cdef void read_datagram(self, uint32_t number, uint8_t* message, size_t size) noexcept nogil:
        """Answer those who wait for what a datagram tells; `size` 0 stands for one that was cut."""
        cdef uint16_t found = 0
        cdef Asked* one
        cdef const Waiter* client
        cdef Walked walked
        if size >= HEADER_SIZE or size == 0:
            found = self.find_id(<uint16_t> number, (<uint16_t> message[0] << 8) | message[1])
        if found == 0:
            self.note_near_miss(number)
            return
        one = &self.asked[found - 1]
        if size == 0:
            self.hand_back(found - 1, REASON_REPLIED)
            return
        client = &self.waiters[one.first - 1]
        if not walk(
            message, size, client.datagram + HEADER_SIZE, client.question_end - HEADER_SIZE, self.names, &walked
        ):
            self.note_near_miss(number)
            return
        if self.hands_back_truncated and walked.flags & FLAG_TRUNCATED:
            self.hand_back(found - 1, REASON_TRUNCATED)
            return
        self.note_reply(one.upstream, one.started, walked.rcode)
        if (
            walked.rcode >= RCODES or self.unwanted >> walked.rcode & 1 or walked.has_options
            or (self.hands_back_empty and walked.rcode == 0 and walked.answers == 0)
        ):
            self.hand_back(found - 1, REASON_REPLIED)
            return
        self.unlink(found - 1)
        self.answer(one, &walked)
        self.release(found - 1)

    cdef void note_near_miss(self, uint32_t number) noexcept nogil:
        """Something came that answers nothing."""
        cdef Socket* one = &self.sockets[number]
        if one.outstanding == 0:
            self.retire(number)         # nobody asked; who sends to this port knows it too well
            return
        if self.upstreams[one.upstream].is_counted:
            self.numbers[self.upstreams[one.upstream].near_misses] += 1
        one.near_misses += 1
        if one.near_misses >= MAX_NEAR_MISSES:
            self.fail_socket(number, REASON_SUSPECT)

    cdef void answer(self, Asked* one, Walked* walked) noexcept nogil:
        """Keep an answer, as `cache` would, and send it to all who wait for it."""
        cdef Question question
        cdef Verdict verdict
        cdef uint16_t waiter = one.first
        cdef uint64_t now = kdns_io_clock()
        question.name, question.name_length, question.qtype = one.name, one.name_length, one.qtype
        question.dnssec_ok, question.checking_disabled = one.dnssec_ok, one.checking_disabled
        judge(&self.rules if one.store else NULL, &question, walked, <uint32_t> time(NULL), &verdict)
        if one.store and verdict.is_whole and verdict.is_kept:
            keep(self.cache, one.store, &question, walked, &verdict)
        while waiter:
            self.answer_client(&self.waiters[waiter - 1], one, walked, &verdict, now)
            waiter = self.waiters[waiter - 1].next

    cdef void answer_client(
        self, Waiter* client, const Asked* one, const Walked* walked, const Verdict* verdict, uint64_t now
    ) noexcept nogil:
        cdef const Route* route = client.route
        cdef uint8_t* out
        cdef size_t size = client.question_end, opt = OPT_SIZE if client.has_edns else 0
        cdef size_t limit = min(<size_t> route.forward_limit, max(<size_t> MIN_UDP_PAYLOAD, <size_t> client.payload_size))
        cdef bint wants_authentic = one.store == 0 or client.dnssec_ok or client.datagram[3] & 0x20
        cdef Taken taken
        cdef Seen seen
        self.make_room(client.client)
        out = self.io.reply[self.replies]
        memcpy(out, client.datagram, size)
        taken.answers, taken.authorities, taken.additionals = walked.answers, walked.authorities, walked.additionals
        copy_sections(
            walked.body, walked.length, verdict.rotate_from, verdict.record_length, limit - size - opt,
            route.forward_rotates and walked.rcode == 0, self.draw(), out + size, &taken,
        )
        out[2] = (
            0x80 | (0x04 if walked.flags & FLAG_AUTHORITATIVE else 0)
            | (0x02 if taken.is_cut or walked.flags & FLAG_TRUNCATED else 0) | (client.datagram[2] & 0x01)
        )
        out[3] = <uint8_t> (
            (walked.flags & (FLAG_RECURSION | FLAG_CHECKING_DISABLED))
            | (walked.flags & FLAG_AUTHENTIC if wants_authentic else 0) | walked.rcode
        )
        put_u16(out + 4, 1)
        put_u16(out + 6, taken.answers)
        put_u16(out + 8, taken.authorities)
        put_u16(out + 10, taken.additionals + client.has_edns)
        self.end_reply(client, size + taken.length)
        seen.qtype, seen.writer, seen.size = one.qtype, WRITER_FORWARD, client.question_end + verdict.whole_size
        self.note_answered(client, &seen, walked.rcode, now)

    cdef void turn_down(
        self, unsigned int rcode, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil:
        """Answer a query that is not taken on."""
        cdef Waiter* made
        self.make_room(client)
        made = &self.waiters[MAX_WAITING + self.replies]
        self.note_client(made, route, client, packet, length, peer, peer_length, control, control_length, now, query)
        self.deny(made, query.qtype, rcode, now)
        if rcode == RCODE_REFUSED:
            self.count(self.refusals)
            self.refused += 1
        else:
            self.overloaded += 1

    cdef void tell_failed(self) noexcept nogil:
        """Tell clients that nobody answered."""
        cdef uint64_t now
        cdef uint32_t at
        cdef uint16_t number, waiter
        if self.failed_count == 0:
            return
        now = kdns_io_clock()
        for at in range(self.failed_count):
            number = self.failed[at]
            waiter = self.asked[number].first
            while waiter:
                self.make_room(self.waiters[waiter - 1].client)
                self.deny(&self.waiters[waiter - 1], self.asked[number].qtype, RCODE_SERVFAIL, now)
                waiter = self.waiters[waiter - 1].next
            self.unanswered += self.asked[number].waiters
            self.release(number)
        self.failed_count = 0

    cdef void deny(self, Waiter* client, uint16_t qtype, unsigned int rcode, uint64_t now) noexcept nogil:
        """Answer a client with a code, as kdns.dns.reply.refusal does; make_room() was called."""
        cdef uint8_t* out = self.io.reply[self.replies]
        cdef Seen seen
        memcpy(out, client.datagram, client.question_end)
        out[2] = 0x80 | (client.datagram[2] & 0x01)
        out[3] = <uint8_t> ((client.datagram[3] & FLAG_CHECKING_DISABLED) | rcode)
        memset(out + 4, 0, HEADER_SIZE - 4)
        out[5], out[11] = 1, client.has_edns
        self.end_reply(client, client.question_end)
        seen.qtype, seen.writer, seen.size = qtype, WRITER_SERVER, 0
        self.note_answered(client, &seen, rcode, now)

    cdef void make_room(self, uint32_t client) noexcept nogil:
        """See to it that the next reply fits into the batch, which leaves by one socket."""
        if self.replies == KDNS_ASKED_BATCH or self.replies_to != client:
            self.send_replies()
            self.replies_to = client

    cdef void end_reply(self, Waiter* client, size_t size) noexcept nogil:
        """Write the OPT record behind a reply, and put it into the batch."""
        cdef uint8_t* out = self.io.reply[self.replies]
        if client.has_edns:
            memset(out + size, 0, OPT_SIZE)
            out[size + 2] = TYPE_OPT
            put_u16(out + size + 3, UDP_LIMIT)
            out[size + 7] = client.dnssec_ok << 7
            size += OPT_SIZE
        kdns_io_set_reply(
            self.io, self.replies, size, client.peer, client.peer_length, client.control, client.control_length
        )
        self.replies += 1

    cdef void note_answered(self, const Waiter* client, Seen* seen, unsigned int rcode, uint64_t now) noexcept nogil:
        """Count a query; `seen` has its type, and what was answered by whom."""
        cdef const Route* route = client.route
        if route.cache.store:
            self.numbers[route.cache_requests] += 1
            self.numbers[route.cache_misses] += 1
        if self.meters is not None and route.meter:
            seen.meter, seen.dnssec_ok = route.meter, client.dnssec_ok
            self.meters.note_timed(seen, kdns_io_is_v6(client.peer), rcode, client.length, now - client.arrived)

    cdef void send_replies(self) noexcept nogil:
        if self.replies:
            self.unsent[self.replies_to][0] += kdns_send_batch(
                self.client_fds[self.replies_to], self.io.out, self.replies
            )
            self.replies = 0


cdef bint _is_plain(const uint8_t* packet, size_t length, const Query* query) noexcept nogil:
    """Whether a query is one an upstream is asked as it is: no record but an OPT one, no option that goes on."""
    cdef size_t at = query.question_end, end
    cdef unsigned int code
    if query.qtype in (TYPE_HINFO, TYPE_IXFR, TYPE_AXFR, TYPE_ANY):
        return False
    if packet[8] | packet[9] | packet[10] or packet[11] != query.has_edns:
        return False
    if not query.has_edns:
        return True
    at += OPT_SIZE
    end = at + ((packet[at - 2] << 8) | packet[at - 1])     # within the message: parse() has walked it
    while at < end:
        code = (packet[at] << 8) | packet[at + 1]
        if code != OPTION_COOKIE and code != OPTION_KEEPALIVE and code != OPTION_PADDING:
            return False
        at += 4 + ((packet[at + 2] << 8) | packet[at + 3])
    return True
