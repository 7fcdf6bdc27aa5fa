# Upstreams and the sockets to them; see upstreams.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.upstream_io cimport kdns_upstream_io

cdef enum:
    MAX_PEER = 28               # octets of a struct sockaddr_in6
    MAX_UPSTREAMS = 256         # that an engine has ever had
    MAX_SOCKETS = 16384         # of all upstreams together
    RCODES = 16                 # those a header can hold
    STOCK = 1024                # random numbers fetched at a time
    # How an upstream is.
    RANK_WELL = 0
    RANK_DOUBTED = 1            # an exchange failed, or a few checks
    RANK_DOWN = 2               # more checks than `max_fails` failed
    RANK_OUT = 3                # never to be asked

cdef struct Socket:
    uint64_t opened             # ns
    uint64_t used
    int fd                      # -1: none
    uint16_t outstanding        # queries under way over it
    uint16_t place              # in its upstream's pool
    uint8_t near_misses
    uint8_t upstream
    uint8_t is_retired          # nothing is sent over it any more

cdef struct Upstream:
    uint8_t address[MAX_PEER]
    uint8_t address_length
    uint8_t is_counted          # the places below are known
    uint32_t trouble            # places in the memory the workers share
    uint32_t out
    uint16_t* pool              # its sockets
    uint32_t pooled
    uint32_t requests           # places in the row of the metrics registry
    uint32_t near_misses
    uint32_t hits[2]
    uint32_t misses[2]
    uint32_t durations[2][RCODES]   # 0: not known yet
    uint32_t responses[RCODES]

cdef class Upstreams:
    cdef readonly bint is_open
    cdef object places_of
    cdef list owners            # of memory that is used here
    cdef double* numbers        # the row of the metrics registry
    cdef Py_ssize_t number_count
    cdef uint64_t expire
    cdef uint64_t max_age
    cdef uint32_t pool_size
    cdef int64_t limit          # of queries under way in all workers; 0: there is none
    cdef int64_t* shared        # as kdns/plugins/forward/shared.py has it
    cdef Py_ssize_t shared_count
    cdef uint32_t cell
    cdef uint32_t first_cell
    cdef uint32_t policy
    cdef uint32_t unwanted      # bit n: replies with this rcode are handed back
    cdef uint8_t attempts       # times a question is sent at most
    cdef int64_t max_fails      # checks that may fail before an upstream is down; 0: it never is
    cdef bint fails_fast        # where all are down nobody is asked
    cdef uint32_t broken        # place where questions are counted for which all were down; 0: not known
    cdef uint8_t source[MAX_PEER]
    cdef size_t source_length
    cdef uint64_t secret[2]
    cdef Socket* sockets
    cdef Upstream* upstreams
    cdef kdns_upstream_io* io
    cdef uint16_t* free_sockets
    cdef uint32_t free_socket_count
    cdef uint32_t upstream_count
    cdef uint8_t order[MAX_UPSTREAMS]
    cdef uint32_t order_count
    cdef uint32_t stock[STOCK]
    cdef uint32_t stock_left
    cdef uint64_t random_state
    cdef int watch
    cdef int timer
    cdef bint is_armed

    cdef take_sockets(self, shared, uint32_t first_cell, uint32_t cell)
    cdef leave_upstreams(self)
    cdef int upstream_at(self, uint8_t upstream)
    cdef void learn(self, uint8_t upstream, int rcode) noexcept with gil
    cdef int rank(self, uint8_t upstream) noexcept nogil
    cdef int choose(self, const uint8_t* tried, unsigned int tries) noexcept nogil
    cdef int choose_of(self, int rank, const uint8_t* tried, unsigned int tries, uint32_t policy) noexcept nogil
    cdef bint fits(self, uint8_t upstream, int rank, const uint8_t* tried, unsigned int tries) noexcept nogil
    cdef void count(self, uint32_t place) noexcept nogil
    cdef bint enter(self) noexcept nogil
    cdef int pick(self, uint8_t upstream, bint* is_new) noexcept nogil
    cdef int open_socket(self, uint8_t upstream) noexcept nogil
    cdef bint has_expired(self, const Socket* one, uint64_t now) noexcept nogil
    cdef void retire(self, uint32_t number) noexcept nogil
    cdef void note_reply(self, uint8_t number, uint64_t started, unsigned int rcode) noexcept nogil
    cdef uint32_t random(self) noexcept nogil
    cdef uint64_t draw(self) noexcept nogil
