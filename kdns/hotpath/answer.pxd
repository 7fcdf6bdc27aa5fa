# What decides a message's fate; see answer.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.cache_memory cimport CacheMemory, CachePolicy
from kdns.hotpath.detours cimport NameSet
from kdns.hotpath.meter cimport Meters, Seen, Writer
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
    OUTCOME_CACHED = 13
    OUTCOME_FORWARDED = 14
    OUTCOMES = 15
    OUTCOME_UNKNOWN = 16        # not to be counted: the table does not know the name, somebody behind it may

cdef enum:
    MAX_SOA = 192               # octets of a rendered SOA record: two names of two labels before a pointer, and 36 more
    ROUTE_MISS = 0
    ROUTE_TABLE = 1
    ROUTE_REFUSE = 2
    ROUTE_REWRITE = 3

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
    uint16_t udp_limit          # octets of a reply over UDP; more than a batch has room for is left to the slow path
    uint8_t any_is_miss         # another plugin answers type ANY
    uint8_t additional_is_miss  # another plugin sees to replies with additional records
    uint8_t error_is_miss       # another plugin sees to errors that were kept
    uint8_t nsid_is_miss        # another plugin sees to queries with the option NSID
    const NameSet* detours      # names another plugin answers; NULL: there are none
    uint8_t counts_cache        # replies from the table count as those of `cache`, which stands before it
    uint32_t cache_requests     # places in the row of the metrics registry
    uint32_t cache_hits[2]
    uint32_t cache_misses
    CachePolicy cache
    uint32_t meter              # the number of its zone's meter + 1; 0: queries are not counted
    uint8_t writer              # whose names the table has here, as meters count it
    uint8_t soa_length
    uint8_t soa_names[3]        # where the pointers to the zone stand in it; the serial is behind the last
    uint8_t soa[MAX_SOA]
    uint8_t suffix[256]
    # Of a route whose queries forward.pyx may take over.
    uint16_t engine             # its number in `engines` + 1; 0: none does
    uint16_t forward_limit      # octets of a reply over UDP
    uint16_t payload_limit      # that an upstream is asked for at most
    uint8_t forward_rotates
    const NameSet* forward_detours
    uint8_t rewrites_exact      # of ROUTE_REWRITE: the suffix alone becomes another name, not the names below it
    uint8_t restores            # the answer's owner is the name that was asked for, not the one it became
    uint16_t becomes_length
    uint8_t becomes[256]        # what stands in the suffix's place

cdef class Responder:
    cdef Route* routes
    cdef size_t route_count
    cdef bint passes_other_classes
    cdef Table table
    cdef uint64_t* counters
    cdef object counters_owner
    cdef list detours_owners
    cdef uint64_t random_state
    cdef CacheMemory cache      # None: there is none
    cdef double* numbers        # of the metrics registry
    cdef object numbers_owner
    cdef Meters meters          # None: nothing is counted
    cdef uint32_t dropped       # as Route.meter, of what no zone holds
    cdef Seen seen              # what there is to count about the message answered last
    cdef const Route* open      # of a miss: the route whose engine may take it over; NULL: only the slow path can
    cdef readonly list engines  # of the routes

    cdef _set_forwarding(self, Route* route, given)
    cdef Outcome respond(
        self, const uint8_t* packet, Py_ssize_t length, size_t limit, bint stream, uint64_t chance,
        uint8_t* reply, size_t* reply_length,
    ) noexcept nogil
    cdef Outcome from_other_name(
        self, const Route* route, const uint8_t* packet, const Query* query, size_t limit, size_t wanted, bint stream,
        uint64_t chance, uint8_t* reply, size_t* reply_length,
    ) noexcept nogil
    cdef Outcome from_cache(
        self, const Route* route, const uint8_t* packet, const Query* query, size_t limit, size_t wanted, bint stream,
        uint64_t chance, uint8_t* reply, size_t* reply_length,
    ) noexcept nogil
    cdef void see(self, uint32_t meter, Writer writer, const Query* query, uint32_t size) noexcept nogil
    cdef uint64_t draw(self) noexcept nogil
    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
