# Attempts at questions and what becomes of those that fail; see attempts.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.questions cimport Questions
from kdns.hotpath.upstreams cimport MAX_UPSTREAMS

cdef enum:
    # Why a question is handed back; in the order of kdns/plugins/forward/compiled.py.
    REASON_TIMEOUT = 0          # no answer came in time
    REASON_FAILED = 1           # the upstream's port refused
    REASON_SUSPECT = 2          # too much came that was no answer
    REASON_REPLIED = 3          # the answer is for the slow path to judge
    REASON_UNSENT = 4           # nothing was sent
    REASON_TRUNCATED = 5        # there is more to be had over TCP

cdef class Attempts(Questions):
    cdef public object on_handed_back
    cdef public object on_failing
    cdef list receivers         # of what is handed back, by client
    cdef uint64_t budget        # ns a question may take
    cdef uint16_t* handed       # numbers of questions that are handed back
    cdef uint16_t* again        # that are to be sent once more
    cdef uint16_t* failed       # whose clients are to be told so
    cdef uint16_t* sending
    cdef uint32_t handed_count
    cdef uint32_t again_count
    cdef uint32_t failed_count
    cdef uint8_t failing[MAX_UPSTREAMS]     # whether an attempt failed
    cdef bint has_failing
    cdef uint32_t left          # failures the slow path gets yet before `refilled` + a second
    cdef uint64_t refilled      # ns

    cdef take_attempts(self)
    cdef forget_attempts(self)
    cdef give_back(self)
    cdef void send(self, uint16_t* numbers, uint32_t count) noexcept nogil
    cdef void send_again(self) noexcept nogil
    cdef void ask(self, uint8_t upstream, uint16_t* group, int count) noexcept nogil
    cdef void write_question(self, uint16_t number, int at) noexcept nogil
    cdef void fail_socket(self, uint32_t number, int reason=*) noexcept nogil
    cdef void expire_old(self) noexcept nogil
    cdef void lose(self, uint16_t number, int reason) noexcept nogil
    cdef void hand_back(self, uint16_t number, int reason) noexcept nogil
    cdef bint may_leave(self, uint32_t queries) noexcept nogil
