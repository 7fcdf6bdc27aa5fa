# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# A meter's number is compared with their count; every other index is bounded where it is made.
"""Counts queries into meters: unsigned numbers in fixed places of shared memory, one writer for each row.

What `note` counts is pending until `settle` says how long it took: one clock reading when a batch has been received,
and one when its replies have been sent, serve all its queries. So a query is charged the time of its whole batch. Two
readings cost more than all the counting of a query; therefore of batches with few queries only each fourth is measured,
and those up to the next one are charged what it took.
"""

from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>

    static inline uint64_t kdns_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
    }

    /* Which counter is a type's, from 1 on; 0: that of all types without one of their own. */
    static const uint8_t kdns_type_place[256] = {
        [1] = 1, [28] = 2, [5] = 3, [48] = 4, [43] = 5, [15] = 6, [50] = 7, [47] = 8, [2] = 9, [12] = 10, [46] = 11,
        [6] = 12, [33] = 13, [16] = 14, [65] = 15, [64] = 16, [251] = 17, [252] = 18, [255] = 19,
    };

    /* The bucket of a size: of those up to 511 octets by hundreds, then by comparing. */
    static inline unsigned kdns_size_bucket(uint64_t size) {
        static const uint32_t bounds[] = {1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000};
        if (size <= 400)
            return (unsigned) ((size + 99) / 100);
        if (size <= 511)
            return 5;
        unsigned bucket = 6;
        while (bucket < 14 && size > bounds[bucket - 6])
            bucket++;
        return bucket;
    }

    /* The bucket of a duration: bounds are 250,000 ns, doubled 15 times. */
    static inline unsigned kdns_duration_bucket(uint64_t nanoseconds) {
        uint64_t bound = 250000;
        unsigned bucket = 0;
        while (bucket < 16 && nanoseconds > bound) {
            bound <<= 1;
            bucket++;
        }
        return bucket;
    }
    """
    uint64_t kdns_now() noexcept nogil
    const uint8_t* kdns_type_place
    unsigned int kdns_size_bucket(uint64_t size) noexcept nogil
    unsigned int kdns_duration_bucket(uint64_t nanoseconds) noexcept nogil


cdef enum:
    SMALL_BATCH = 8             # queries; from here on each batch is measured
    SAMPLING = 4                # of smaller ones, one in so many; a power of two


cdef class Meters:
    """The meters of this process: `memory` is its row of a MeterTable, which has at least one."""

    def __cinit__(self, memory not None):
        cdef unsigned char[::1] octets = memory
        cdef uint32_t at
        if octets.shape[0] < <Py_ssize_t> sizeof(Meter):
            raise ValueError(f"{octets.shape[0]} octets of meters, expected {sizeof(Meter)} or more")
        self.memory = octets
        self.meters = <Meter*> &octets[0]
        self.count = <uint32_t> (octets.shape[0] // sizeof(Meter))
        self.touched = <uint32_t*> calloc(self.count, sizeof(uint32_t))
        if self.touched == NULL:
            raise MemoryError()
        # A process that was killed in a batch has left some of it pending.
        for at in range(self.count):
            if self.meters[at].pending:
                self.meters[at].pending = 0

    def __dealloc__(self):
        free(self.touched)

    cdef void note(self, const Seen* seen, bint stream, bint is_v6, unsigned int rcode, size_t request_size) noexcept nogil:
        """Count a query that has been answered, but for its duration."""
        cdef Meter* meter = self.count_sizes(seen, stream, is_v6, rcode, request_size)
        if meter == NULL:
            return
        if meter.pending == 0:
            self.touched[self.touched_count] = seen.meter - 1
            self.touched_count += 1
        meter.pending += 1

    cdef void note_timed(
        self, const Seen* seen, bint is_v6, unsigned int rcode, size_t request_size, uint64_t nanoseconds
    ) noexcept nogil:
        """Count a query over UDP that has been answered, after so long."""
        cdef Meter* meter = self.count_sizes(seen, False, is_v6, rcode, request_size)
        if meter != NULL:
            meter.durations[kdns_duration_bucket(nanoseconds)] += 1
            meter.nanoseconds += nanoseconds

    cdef Meter* count_sizes(
        self, const Seen* seen, bint stream, bint is_v6, unsigned int rcode, size_t request_size
    ) noexcept nogil:
        """Count everything but the duration; NULL where nobody counts."""
        cdef Meter* meter
        if seen.meter == 0 or seen.meter > self.count:
            return NULL
        meter = self.meters + (seen.meter - 1)
        meter.requests[stream][is_v6][_type_place(seen.qtype)] += 1
        meter.dnssec_ok += seen.dnssec_ok
        meter.responses[seen.writer][rcode & (METER_RCODES - 1)] += 1
        meter.request_sizes[stream][kdns_size_bucket(request_size)] += 1
        meter.request_octets[stream] += request_size
        meter.response_sizes[stream][kdns_size_bucket(seen.size)] += 1
        meter.response_octets[stream] += seen.size
        return meter

    cdef uint64_t begin(self, Py_ssize_t queries) noexcept nogil:
        """Begin a batch of so many queries, for settle() to end; 0: its time is not measured."""
        if queries < SMALL_BATCH:
            self.turn += 1
            if (self.turn & (SAMPLING - 1)) != 1:
                return 0
        return kdns_now()

    cdef void settle(self, uint64_t started) noexcept nogil:
        """End the batch begun at `started`: what is pending took until now."""
        cdef uint32_t at
        cdef Meter* meter
        cdef uint64_t nanoseconds
        cdef unsigned int bucket
        if self.touched_count == 0:
            return
        if started:
            self.measured = kdns_now() - started
        nanoseconds = self.measured
        bucket = kdns_duration_bucket(nanoseconds)
        for at in range(self.touched_count):
            meter = self.meters + self.touched[at]
            meter.durations[bucket] += meter.pending
            meter.nanoseconds += meter.pending * nanoseconds
            meter.pending = 0
        self.touched_count = 0

    def observe(
        self, uint32_t meter, *, bint stream, bint is_v6, uint16_t qtype, bint dnssec_ok, size_t request_size,
        size_t response_size, double seconds,
    ):
        """Count a query of the slow path; who answered it, and with what rcode, is counted elsewhere."""
        cdef Meter* counted
        if meter >= self.count:
            raise IndexError(f"meter {meter}, expected less than {self.count}")
        cdef uint64_t nanoseconds = <uint64_t> (max(seconds, 0.0) * 1e9)
        counted = self.meters + meter
        counted.requests[stream][is_v6][_type_place(qtype)] += 1
        counted.dnssec_ok += dnssec_ok
        counted.request_sizes[stream][kdns_size_bucket(request_size)] += 1
        counted.request_octets[stream] += request_size
        counted.response_sizes[stream][kdns_size_bucket(response_size)] += 1
        counted.response_octets[stream] += response_size
        counted.durations[kdns_duration_bucket(nanoseconds)] += 1
        counted.nanoseconds += nanoseconds


cdef unsigned int duration_bucket(uint64_t nanoseconds) noexcept nogil:
    """The bucket of a duration, of those from 250 us on that double."""
    return kdns_duration_bucket(nanoseconds)


cdef inline unsigned int _type_place(uint16_t qtype) noexcept nogil:
    cdef unsigned int place = kdns_type_place[qtype] if qtype < 256 else 0
    return place - 1 if place else METER_TYPES - 1
