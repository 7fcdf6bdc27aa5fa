# Forwarding over UDP; see forward.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.answer cimport Route
from kdns.hotpath.attempts cimport Attempts
from kdns.hotpath.cache cimport AnswerCache
from kdns.hotpath.meter cimport Meters, Seen
from kdns.hotpath.questions cimport Asked, Waiter
from kdns.hotpath.verdict cimport Rules, Verdict
from kdns.hotpath.walker cimport Names, Walked
from kdns.hotpath.wire cimport Query

cdef enum:
    MAX_CLIENTS = 1024          # sockets clients ask at

cdef class Engine(Attempts):
    cdef int client_fds[MAX_CLIENTS]
    cdef uint64_t* unsent[MAX_CLIENTS]
    cdef AnswerCache cache
    cdef Meters meters
    cdef Rules rules
    cdef bint has_rules
    cdef bint hands_back_empty
    cdef bint hands_back_truncated
    cdef Names* names
    cdef uint16_t outbox[64]
    cdef int outbox_count
    cdef int replies            # in the batch that is being made
    cdef uint32_t replies_to    # the client socket they leave by
    cdef uint32_t refusals      # place where refused queries are counted; 0: not known
    cdef readonly uint64_t refused      # queries over the limit that were answered here
    cdef readonly uint64_t overloaded   # for which there was no room, or nobody to ask
    cdef readonly uint64_t unanswered   # to which no upstream had an answer

    cdef bint take_over(
        self, const Route* route, uint32_t client, const uint8_t* packet, size_t length, const void* peer,
        size_t peer_length, const void* control, size_t control_length, uint64_t now,
    ) noexcept
    cdef flush(self)
    cdef void read_sockets(self) noexcept nogil
    cdef void read_socket(self, uint32_t number) noexcept nogil
    cdef void read_datagram(self, uint32_t number, uint8_t* message, size_t size) noexcept nogil
    cdef void note_near_miss(self, uint32_t number) noexcept nogil
    cdef void answer(self, Asked* one, Walked* walked) noexcept nogil
    cdef void answer_client(
        self, Waiter* client, const Asked* one, const Walked* walked, const Verdict* verdict, uint64_t now
    ) noexcept nogil
    cdef void turn_down(
        self, unsigned int rcode, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil
    cdef void tell_failed(self) noexcept nogil
    cdef void deny(self, Waiter* client, uint16_t qtype, unsigned int rcode, uint64_t now) noexcept nogil
    cdef void make_room(self, uint32_t client) noexcept nogil
    cdef void end_reply(self, Waiter* client, size_t size) noexcept nogil
    cdef void note_answered(self, const Waiter* client, Seen* seen, unsigned int rcode, uint64_t now) noexcept nogil
    cdef void send_replies(self) noexcept nogil
