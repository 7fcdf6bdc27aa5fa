# Questions under way and who waits for them; see questions.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.answer cimport Route
from kdns.hotpath.upstreams cimport MAX_PEER, Upstreams
from kdns.hotpath.wire cimport NAME_BUFFER, Query

cdef enum:
    MAX_ASKED = 4096            # questions an engine has under way; others are left to the slow path
    MAX_WAITING = 4096          # clients that wait for them
    MAX_QUERY = 512             # octets of a client's datagram; longer ones are unusual
    MAX_CONTROL = 64            # octets of a reply's control data
    BUCKETS = 8192              # of each hash table; a power of two
    MAX_TRIES = 3               # times a question is sent (kdns/plugins/forward/budget.py)
    SPARE_WAITERS = 64          # of clients that are answered at once; as many as a batch has replies

cdef struct Waiter:
    # A client that waits for an answer.
    const Route* route
    uint64_t arrived            # ns of the monotonic clock
    uint32_t client
    uint16_t next               # who waits for the same, + 1
    uint16_t length             # octets of its datagram
    uint16_t question_end
    uint16_t payload_size
    uint8_t has_edns
    uint8_t dnssec_ok
    uint8_t peer_length
    uint8_t control_length
    uint8_t peer[MAX_PEER]
    uint8_t control[MAX_CONTROL]
    uint8_t datagram[MAX_QUERY]

cdef struct Asked:
    # A question under way to an upstream.
    uint64_t key                # its hash
    uint64_t variant            # what else makes questions differ
    uint64_t store
    uint64_t started            # ns of the monotonic clock; of the last attempt
    uint64_t began              # of the first one
    uint16_t first              # of those who wait, + 1
    uint16_t last
    uint16_t waiters
    uint16_t next_key           # in the same bucket, + 1
    uint16_t next_id
    uint16_t older              # of those that were sent, + 1
    uint16_t newer
    uint16_t socket             # its number
    uint16_t id
    uint16_t qtype
    uint16_t name_length
    uint8_t upstream
    uint8_t tries               # times it was sent
    uint8_t tried[MAX_TRIES]    # to these upstreams
    uint8_t reason              # why it was handed back
    uint8_t is_sent
    uint8_t dnssec_ok
    uint8_t checking_disabled
    uint8_t name[NAME_BUFFER]   # lower case, zeros behind it

cdef class Questions(Upstreams):
    cdef readonly Py_ssize_t waiting    # clients that wait for an answer
    cdef uint64_t timeout       # ns
    cdef Waiter* waiters
    cdef Asked* asked
    cdef uint16_t* by_key
    cdef uint16_t* by_id
    cdef uint16_t* free_waiters
    cdef uint16_t* free_asked
    cdef uint32_t free_waiter_count
    cdef uint32_t free_asked_count
    cdef uint16_t oldest        # of the questions sent, + 1
    cdef uint16_t newest

    cdef take_questions(self)
    cdef forget_questions(self)
    cdef void join(
        self, uint16_t number, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil
    cdef void note_client(
        self, Waiter* made, const Route* route, uint32_t client, const uint8_t* packet, size_t length,
        const void* peer, size_t peer_length, const void* control, size_t control_length, uint64_t now,
        const Query* query,
    ) noexcept nogil
    cdef uint64_t variant_of(self, const Route* route, const uint8_t* packet, const Query* query) noexcept nogil
    cdef uint64_t key_of(self, const Query* query, uint64_t variant) noexcept nogil
    cdef uint16_t find(self, uint64_t key, const Route* route, uint64_t variant, const Query* query) noexcept nogil
    cdef bint draw_id(self, uint16_t number, const uint16_t* group, int at) noexcept nogil
    cdef uint16_t find_id(self, uint16_t socket, uint16_t id) noexcept nogil
    cdef void note_sent(self, uint16_t number, uint16_t socket, uint64_t now) noexcept nogil
    cdef void unlink(self, uint16_t number) noexcept nogil
    cdef void unsend(self, uint16_t number) noexcept nogil
    cdef void release(self, uint16_t number) noexcept nogil
