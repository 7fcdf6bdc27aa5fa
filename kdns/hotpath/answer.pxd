# What decides a message's fate; see answer.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.table cimport Table
from kdns.hotpath.wire cimport Query

cdef enum Outcome:
    # The order is that of kdns.metrics.OUTCOMES.
    OUTCOME_ANSWER = 0
    OUTCOME_NODATA = 1
    OUTCOME_NXDOMAIN = 2
    OUTCOME_TRUNCATED = 3
    OUTCOME_REFUSED = 4
    OUTCOME_FORMERR = 5
    OUTCOME_NOTIMP = 6
    OUTCOME_BADVERS = 7
    OUTCOME_MISS = 8
    OUTCOME_DROP_SHORT = 9
    OUTCOME_DROP_RESPONSE = 10
    OUTCOME_DROP_SERVICE_PORT = 11
    OUTCOME_DROP_UNSENT = 12
    OUTCOMES = 13

cdef enum:
    SOA_BODY = 54               # octets of a rendered SOA record; its names are pointers
    ROUTE_MISS = 0
    ROUTE_TABLE = 1
    ROUTE_REFUSE = 2

cdef struct Route:
    uint8_t action
    uint8_t view
    uint8_t serial              # index of the zone's SOA serial
    uint8_t rotates             # address records start at a random one
    uint8_t nxdomain_is_miss    # somebody behind the table may know the name
    uint8_t port_depth          # labels below the zone of _port._proto.<svc>.<ns>.svc; 0: no such names
    uint8_t miss_depth          # labels below the zone from which on the table does not know all; 0: it does
    uint8_t zone_labels
    uint16_t suffix_length
    uint16_t zone_length
    uint8_t soa[SOA_BODY]
    uint8_t suffix[256]

cdef class Responder:
    cdef Route* routes
    cdef size_t route_count
    cdef bint passes_other_classes
    cdef Table table
    cdef uint64_t* counters
    cdef object counters_owner
    cdef uint64_t random_state

    cdef Outcome respond(
        self, const uint8_t* packet, Py_ssize_t length, size_t limit, bint stream, uint64_t chance,
        uint8_t* reply, size_t* reply_length,
    ) noexcept nogil
    cdef uint64_t draw(self) noexcept nogil
    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
