# The meters of a process; see meter.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    # The order of types, writers and buckets is that of kdns/metrics/meters.py.
    METER_TYPES = 20
    METER_WRITERS = 5
    METER_RCODES = 16
    METER_DURATIONS = 17        # buckets, the one without a bound too
    METER_SIZES = 15

cdef enum Writer:
    WRITER_SERVER = 0           # the server itself: the label `plugin` is empty
    WRITER_KUBERNETES = 1
    WRITER_CACHE = 2
    WRITER_EXTERNAL = 3         # k8s_external
    WRITER_FORWARD = 4

cdef struct Meter:
    uint64_t requests[2][2][METER_TYPES]        # by protocol (UDP, TCP), family (IPv4, IPv6) and type
    uint64_t dnssec_ok
    uint64_t responses[METER_WRITERS][METER_RCODES]
    uint64_t durations[METER_DURATIONS]
    uint64_t nanoseconds
    uint64_t request_sizes[2][METER_SIZES]
    uint64_t request_octets[2]
    uint64_t response_sizes[2][METER_SIZES]
    uint64_t response_octets[2]
    uint64_t pending                            # counted, but for the duration

# What there is to count about a query that has been answered.
cdef struct Seen:
    uint32_t meter              # its number + 1; 0: nobody counts it
    uint16_t qtype
    uint8_t dnssec_ok
    uint8_t writer
    uint32_t size               # octets of the reply, uncompressed, whole and without OPT

cdef unsigned int duration_bucket(uint64_t nanoseconds) noexcept nogil

cdef class Meters:
    cdef Meter* meters
    cdef uint32_t count
    cdef object memory          # keeps it alive
    cdef uint32_t* touched      # numbers of the meters with something pending
    cdef uint32_t touched_count
    cdef uint32_t turn          # counts small batches
    cdef uint64_t measured      # ns; of the batch measured last

    cdef void note(self, const Seen* seen, bint stream, bint is_v6, unsigned int rcode, size_t request_size) noexcept nogil
    cdef Meter* count_sizes(
        self, const Seen* seen, bint stream, bint is_v6, unsigned int rcode, size_t request_size
    ) noexcept nogil
    cdef void note_timed(
        self, const Seen* seen, bint is_v6, unsigned int rcode, size_t request_size, uint64_t nanoseconds
    ) noexcept nogil
    cdef uint64_t begin(self, Py_ssize_t queries) noexcept nogil
    cdef void settle(self, uint64_t started) noexcept nogil
