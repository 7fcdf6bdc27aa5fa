# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Indices run over the batch's own arrays; packets are read by Responder.respond(), which checks them.
"""Datagrams in batches: one recvmmsg, a reply for each message the table decides, one sendmmsg.

The loop holds no lock of Python's and makes no Python object; only a miss becomes one, on its way to the slow path.
A socket bound to a wildcard address is told by the kernel where each query arrived and replies from there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free

from kdns.hotpath.answer cimport (
    OUTCOME_DROP_SERVICE_PORT, OUTCOME_DROP_UNSENT, OUTCOME_FORMERR, OUTCOME_FORWARDED, OUTCOME_MISS, OUTCOME_NOTIMP,
    Outcome, Responder, Route,
)
from kdns.hotpath.datagrams cimport kdns_send_batch, mmsghdr, msghdr
from kdns.hotpath.forward cimport Engine
from kdns.hotpath.upstream_io cimport kdns_io_clock

import os
import socket
import struct

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <netinet/in.h>
    #include <string.h>
    #include <sys/socket.h>

    #define KDNS_BATCH 64             /* datagrams for one system call; more than 64 gained nothing measurable */
    #define KDNS_DATAGRAM 2048        /* octets of a query; larger ones arrive cut and are format errors */
    #define KDNS_REPLY 1280           /* octets; replies over UDP have at most 1232 */
    #define KDNS_CONTROL 64           /* octets for one in_pktinfo or in6_pktinfo with its header */

    typedef struct {
        struct mmsghdr in[KDNS_BATCH];
        struct mmsghdr out[KDNS_BATCH];
        struct iovec in_vector[KDNS_BATCH];
        struct iovec out_vector[KDNS_BATCH];
        struct sockaddr_in6 peer[KDNS_BATCH];
        uint8_t control[KDNS_BATCH][KDNS_CONTROL] __attribute__((aligned(8)));  /* as struct cmsghdr wants it */
        uint16_t missed[KDNS_BATCH];
        uint8_t datagram[KDNS_BATCH][KDNS_DATAGRAM];
        uint8_t reply[KDNS_BATCH][KDNS_REPLY];
    } kdns_batch;

    static int kdns_receive(int fd, kdns_batch *batch, int wildcard) {
        for (int i = 0; i < KDNS_BATCH; i++) {
            struct msghdr *header = &batch->in[i].msg_hdr;
            batch->in_vector[i].iov_base = batch->datagram[i];
            batch->in_vector[i].iov_len = KDNS_DATAGRAM;
            header->msg_name = &batch->peer[i];
            header->msg_namelen = sizeof batch->peer[i];
            header->msg_iov = &batch->in_vector[i];
            header->msg_iovlen = 1;
            header->msg_control = wildcard ? batch->control[i] : NULL;
            header->msg_controllen = wildcard ? KDNS_CONTROL : 0;
        }
        int count;
        do
            count = recvmmsg(fd, batch->in, KDNS_BATCH, MSG_DONTWAIT, NULL);
        while (count < 0 && errno == EINTR);
        return count;
    }

    /* Turn what the kernel said about a query's arrival into where the reply leaves from: the address, and the
       interface only where the address is of one link. The length of the control data that remains. */
    static size_t kdns_reply_control(struct msghdr *header) {
        struct cmsghdr *item;
        for (item = CMSG_FIRSTHDR(header); item != NULL; item = CMSG_NXTHDR(header, item)) {
            if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
                struct in_pktinfo *info = (struct in_pktinfo *) CMSG_DATA(item);
                info->ipi_ifindex = 0;
                memmove(header->msg_control, item, CMSG_SPACE(sizeof *info));
                return CMSG_SPACE(sizeof *info);
            }
            if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
                struct in6_pktinfo *info = (struct in6_pktinfo *) CMSG_DATA(item);
                if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
                    info->ipi6_ifindex = 0;
                memmove(header->msg_control, item, CMSG_SPACE(sizeof *info));
                return CMSG_SPACE(sizeof *info);
            }
        }
        return 0;
    }

    static inline unsigned kdns_peer_port(const kdns_batch *batch, int i) {
        return ntohs(batch->peer[i].sin6_port);     /* at the same place in sockaddr_in */
    }

    static inline int kdns_peer_is_v6(const kdns_batch *batch, int i) {
        return batch->peer[i].sin6_family == AF_INET6;
    }

    static void kdns_set_reply(kdns_batch *batch, int slot, int i, size_t length) {
        struct msghdr *in = &batch->in[i].msg_hdr, *out = &batch->out[slot].msg_hdr;
        batch->out_vector[slot].iov_base = batch->reply[i];
        batch->out_vector[slot].iov_len = length;
        out->msg_name = in->msg_name;
        out->msg_namelen = in->msg_namelen;
        out->msg_iov = &batch->out_vector[slot];
        out->msg_iovlen = 1;
        out->msg_controllen = in->msg_controllen ? kdns_reply_control(in) : 0;
        out->msg_control = out->msg_controllen ? in->msg_control : NULL;
        out->msg_flags = 0;
    }

    static int kdns_send_one(int fd, const void *peer, size_t peer_length, const void *control, size_t control_length,
                             const void *reply, size_t length) {
        struct iovec vector = { (void *) reply, length };
        struct msghdr header;
        memset(&header, 0, sizeof header);
        header.msg_name = (void *) peer;
        header.msg_namelen = peer_length;
        header.msg_iov = &vector;
        header.msg_iovlen = 1;
        header.msg_control = control_length ? (void *) control : NULL;
        header.msg_controllen = control_length;
        return sendmsg(fd, &header, MSG_DONTWAIT) >= 0;
    }
    """
    ctypedef struct kdns_batch:
        mmsghdr* in_ "in"
        mmsghdr* out
        uint8_t** control
        uint16_t* missed
        uint8_t** datagram
        uint8_t** reply
    enum:
        KDNS_BATCH
        KDNS_REPLY
        MSG_TRUNC
    int kdns_receive(int fd, kdns_batch* batch, int wildcard) noexcept nogil
    unsigned int kdns_peer_port(const kdns_batch* batch, int i) noexcept nogil
    bint kdns_peer_is_v6(const kdns_batch* batch, int i) noexcept nogil
    void kdns_set_reply(kdns_batch* batch, int slot, int i, size_t length) noexcept nogil
    size_t kdns_reply_control(msghdr* header) noexcept nogil
    int kdns_send_one(
        int fd, const void* peer, size_t peer_length, const void* control, size_t control_length,
        const void* reply, size_t length,
    ) noexcept nogil

cdef enum:
    UDP_LIMIT = 1232            # octets; Responder lowers it to what the client takes
    CONTROL_HEADER = 16         # octets of struct cmsghdr before the data: length (8), level and type (4 each)
    MAX_BATCHES = 16            # a wake-up serves at most this many full batches, so other events get their turn


cdef class UdpSocket:
    """A bound UDP socket and the Responder that answers on it.

    `wildcard` says that the socket is bound to no particular address and has IP_PKTINFO or IPV6_RECVPKTINFO set.
    """

    cdef kdns_batch* _batch
    cdef Responder _responder
    cdef const Route* _open[KDNS_BATCH]     # of each missed datagram, as Responder.open
    cdef list _engines                      # of the responder, and the number this socket has with each
    cdef list _numbers
    cdef int _fd
    cdef bint _wildcard

    def __cinit__(self, int fd, Responder responder not None, bint wildcard):
        self._batch = <kdns_batch*> calloc(1, sizeof(kdns_batch))
        if self._batch == NULL:
            raise MemoryError()
        self._fd = fd
        self._responder = responder
        self._wildcard = wildcard
        self._engines, self._numbers = [], []

    def __dealloc__(self):
        free(self._batch)

    def use_engines(self, receiver not None):
        """Let engines take over what they can; `receiver(message, peer, control)` gets what they hand back."""
        self._numbers = [engine.add_client(self._fd, self._responder, receiver) for engine in self._responder.engines]
        self._engines = self._responder.engines

    def receive(self):
        """Serve what waits in the socket; the misses, each (message, peer, control), the latter two for `send`."""
        cdef int count, turn, missed, at
        cdef Responder responder = self._responder
        misses = None
        for turn in range(MAX_BATCHES):
            missed = 0
            with nogil:
                count = self._serve_batch(responder, &missed)
            if missed:
                if misses is None:
                    misses = []
                self._sort_out(missed, misses)
            if count < KDNS_BATCH:
                break
        return misses or None

    def send(self, bytes reply not None, bytes peer not None, bytes control not None):
        """Send a reply of the slow path; False where the kernel refused it."""
        cdef bint sent = kdns_send_one(
            self._fd, PyBytes_AS_STRING(peer), PyBytes_GET_SIZE(peer), PyBytes_AS_STRING(control),
            PyBytes_GET_SIZE(control), PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply),
        )
        if not sent:
            self._responder.counters[<int> OUTCOME_DROP_UNSENT] += 1
        return sent

    cdef int _serve_batch(self, Responder responder, int* missed) noexcept nogil:
        """Receive and answer one batch; how many datagrams it had, the indices of the missed ones put aside."""
        cdef kdns_batch* batch = self._batch
        cdef int count = kdns_receive(self._fd, batch, self._wildcard)
        cdef int at, replies = 0
        cdef size_t length
        cdef Py_ssize_t size
        cdef Outcome outcome
        cdef uint64_t started = 0 if responder.meters is None else responder.meters.begin(count)
        responder.enter()
        for at in range(count):
            # A datagram that was cut cannot be parsed to its end: a header without the rest is a format error too.
            size = 12 if batch.in_[at].msg_hdr.msg_flags & MSG_TRUNC else batch.in_[at].msg_len
            outcome = responder.respond(
                batch.datagram[at], size, UDP_LIMIT, False, responder.draw(), batch.reply[at], &length
            )
            if (outcome == OUTCOME_FORMERR or outcome == OUTCOME_NOTIMP) and _is_service_port(kdns_peer_port(batch, at)):
                outcome = OUTCOME_DROP_SERVICE_PORT
                length = 0
            elif kdns_peer_port(batch, at) == 0:
                outcome = OUTCOME_DROP_SERVICE_PORT
                length = 0
            if outcome != OUTCOME_MISS:     # whether it is one is not known yet
                responder.counters[<int> outcome] += 1
            if length:
                if responder.seen.meter:
                    responder.meters.note(
                        &responder.seen, False, kdns_peer_is_v6(batch, at), batch.reply[at][3], batch.in_[at].msg_len
                    )
                kdns_set_reply(batch, replies, at, length)
                replies += 1
            elif outcome == OUTCOME_MISS:
                batch.missed[missed[0]] = <uint16_t> at
                self._open[missed[0]] = responder.open
                missed[0] += 1
        responder.leave()
        if replies:
            responder.counters[<int> OUTCOME_DROP_UNSENT] += kdns_send_batch(self._fd, batch.out, replies)
        if responder.meters is not None:
            responder.meters.settle(started)
        return count

    cdef _sort_out(self, int missed, list misses):
        """Let engines take over which they can of the datagrams put aside; the others are misses."""
        cdef uint64_t now = kdns_io_clock() if self._engines else 0
        cdef int at
        cdef Engine engine = None
        cdef const Route* route
        for at in range(missed):
            route = self._open[at]
            if route != NULL and self._engines:
                engine = self._engines[route.engine - 1]
                if self._take_over(engine, route, self._batch.missed[at], now):
                    self._responder.counters[<int> OUTCOME_FORWARDED] += 1
                    continue
            self._responder.counters[<int> OUTCOME_MISS] += 1
            misses.append(self._miss(self._batch.missed[at]))
        if engine is not None:
            for engine in self._engines:
                engine.flush()

    cdef bint _take_over(self, Engine engine, const Route* route, int at, uint64_t now):
        cdef msghdr* header = &self._batch.in_[at].msg_hdr
        cdef size_t control = kdns_reply_control(header) if header.msg_controllen else 0
        return engine.take_over(
            route, self._numbers[route.engine - 1], self._batch.datagram[at], self._batch.in_[at].msg_len,
            header.msg_name, header.msg_namelen, header.msg_control, control, now,
        )

    cdef object _miss(self, int at):
        cdef msghdr* header = &self._batch.in_[at].msg_hdr
        cdef size_t control = kdns_reply_control(header) if header.msg_controllen else 0
        return (
            PyBytes_FromStringAndSize(<char*> self._batch.datagram[at], self._batch.in_[at].msg_len),
            PyBytes_FromStringAndSize(<char*> header.msg_name, header.msg_namelen),
            PyBytes_FromStringAndSize(<char*> header.msg_control, control) if control else b"",
        )


cdef bint _is_service_port(unsigned int port) noexcept nogil:
    # Services that answer whatever they are sent: an error reply to a forged source would start a loop.
    return port == 7 or port == 13 or port == 17 or port == 19 or port == 37 or port == 53


def address_of(bytes peer not None):
    """(address text, port) of a socket address as `receive` gives it."""
    family, port = struct.unpack_from("=H", peer)[0], struct.unpack_from("!H", peer, 2)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(family, peer[4:8]), port
    return socket.inet_ntop(family, peer[8:24]), port


def arrival_of(bytes control not None):
    """The address a query arrived at, from its control data as `receive` gives it; empty where there is none."""
    if len(control) < CONTROL_HEADER + 12:
        return ""
    if struct.unpack_from("=i", control, 8)[0] == socket.IPPROTO_IP:
        return socket.inet_ntop(socket.AF_INET, control[CONTROL_HEADER + 8:CONTROL_HEADER + 12])
    return socket.inet_ntop(socket.AF_INET6, control[CONTROL_HEADER:CONTROL_HEADER + 16])
