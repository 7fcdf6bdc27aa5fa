# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Frames are cut by length prefixes that are compared with what has arrived before anything is read.
"""Messages of a TCP stream: whole frames in, framed replies out, many for one call (RFC 1035, 4.2.2; RFC 7766)."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from kdns.errors import StreamError
from kdns.hotpath.answer cimport OUTCOME_MISS, Outcome, Responder

cdef enum:
    MAX_MESSAGE = 65535         # octets (RFC 1035, 4.2.2)
    HEADER_SIZE = 12            # octets; a shorter frame is no message and ends the connection
    USUAL_FRAME = 64            # octets; it takes no more than a guess at how many queries there are
    BATCH_SIZE = 65536          # octets of replies after which the caller gets to look at its socket


cdef class StreamResponder:
    """Answers the messages of streams by a Responder; one object serves all connections of a listener."""

    cdef Responder _responder
    cdef uint8_t* _replies

    def __cinit__(self, Responder responder not None):
        self._responder = responder
        self._replies = <uint8_t*> malloc(BATCH_SIZE + 2 + MAX_MESSAGE)
        if self._replies == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self._replies)

    def answer(self, const unsigned char[::1] data not None, bint family_is_v6=False):
        """Take whole messages from the front of `data`: (octets consumed, framed replies, missed messages).

        Stops early once the replies are larger than BATCH_SIZE. Raises StreamError for a frame that holds no header.
        """
        cdef Py_ssize_t length = data.shape[0], at = 0
        cdef unsigned int size
        cdef size_t used = 0, reply
        cdef Outcome outcome
        cdef const uint8_t* octets = &data[0] if length else NULL
        cdef Responder responder = self._responder
        cdef uint64_t started = 0 if responder.meters is None else responder.meters.begin(length // USUAL_FRAME)
        misses = []
        while length - at >= 2 and used < BATCH_SIZE:
            size = (octets[at] << 8) | octets[at + 1]
            if size < HEADER_SIZE:
                if at:              # what came before is answered first; the next call raises
                    break
                raise StreamError(f"frame of {size} octets, expected at least {HEADER_SIZE}")
            if length - at - 2 < size:
                break
            with nogil:
                responder.enter()
                outcome = responder.respond(
                    octets + at + 2, size, MAX_MESSAGE, True, responder.draw(), self._replies + used + 2, &reply
                )
                responder.leave()
            responder.counters[<int> outcome] += 1
            if reply:
                if responder.seen.meter:
                    responder.meters.note(&responder.seen, True, family_is_v6, self._replies[used + 5], size)
                self._replies[used] = <uint8_t> (reply >> 8)
                self._replies[used + 1] = <uint8_t> reply
                used += 2 + reply
            elif outcome == OUTCOME_MISS:
                misses.append(PyBytes_FromStringAndSize(<const char*> octets + at + 2, size))
            at += 2 + size
        if responder.meters is not None:
            responder.meters.settle(started)
        return at, PyBytes_FromStringAndSize(<char*> self._replies, used), misses
