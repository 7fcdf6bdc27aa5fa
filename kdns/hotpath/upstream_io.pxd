# Sockets to upstreams, as forward.pyx needs them of C: opened, asked and read in batches, with a timer among them.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kdns.hotpath.datagrams cimport mmsghdr

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <netinet/in.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/random.h>
    #include <sys/socket.h>
    #include <sys/timerfd.h>
    #include <time.h>
    #include <unistd.h>

    #define KDNS_ASKED_BATCH 64         /* queries for one system call: as many as a batch of clients' has */
    #define KDNS_ANSWERED_BATCH 32      /* datagrams read from a socket at a time */
    #define KDNS_EVENTS 64
    #define KDNS_ANSWER 4096            /* octets of an upstream's datagram; larger ones arrive cut */
    #define KDNS_QUESTION 320           /* octets: header, the longest question, an OPT record without options */
    #define KDNS_ANSWER_OUT 1280        /* octets; replies over UDP have at most 1232 */
    #define KDNS_TIMER 0xFFFFFFFFu      /* in place of a socket's number */

    typedef struct {
        struct mmsghdr asked[KDNS_ASKED_BATCH], in[KDNS_ANSWERED_BATCH], out[KDNS_ASKED_BATCH];
        struct iovec asked_vector[KDNS_ASKED_BATCH], in_vector[KDNS_ANSWERED_BATCH], out_vector[KDNS_ASKED_BATCH];
        struct epoll_event events[KDNS_EVENTS];
        uint8_t question[KDNS_ASKED_BATCH][KDNS_QUESTION];
        uint8_t answer[KDNS_ANSWERED_BATCH][KDNS_ANSWER];
        uint8_t reply[KDNS_ASKED_BATCH][KDNS_ANSWER_OUT];
    } kdns_upstream_io;

    static void kdns_io_prepare(kdns_upstream_io *io) {
        for (int i = 0; i < KDNS_ASKED_BATCH; i++) {
            io->asked_vector[i].iov_base = io->question[i];
            io->asked[i].msg_hdr.msg_iov = &io->asked_vector[i];
            io->asked[i].msg_hdr.msg_iovlen = 1;
            io->out_vector[i].iov_base = io->reply[i];
            io->out[i].msg_hdr.msg_iov = &io->out_vector[i];
            io->out[i].msg_hdr.msg_iovlen = 1;
        }
        for (int i = 0; i < KDNS_ANSWERED_BATCH; i++) {
            io->in_vector[i].iov_base = io->answer[i];
            io->in_vector[i].iov_len = KDNS_ANSWER;
            io->in[i].msg_hdr.msg_iov = &io->in_vector[i];
            io->in[i].msg_hdr.msg_iovlen = 1;
        }
    }

    static int kdns_io_watch(int watch, int fd, uint32_t number) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.events = EPOLLIN;
        event.data.u32 = number;
        return epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event);
    }

    /* A connected socket of a fresh port that is watched; -1: there is none to be had. */
    static int kdns_io_open(int watch, uint32_t number, const void *to, size_t to_length, const void *from,
                            size_t from_length) {
        int fd = socket(((const struct sockaddr *) to)->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -1;
        if ((from_length && bind(fd, from, (socklen_t) from_length)) || connect(fd, to, (socklen_t) to_length)
            || kdns_io_watch(watch, fd, number)) {
            close(fd);
            return -1;
        }
        return fd;
    }

    /* An epoll descriptor with a timer in it; -1: there is none to be had. */
    static int kdns_io_start(int *timer) {
        int watch = epoll_create1(EPOLL_CLOEXEC);
        *timer = watch < 0 ? -1 : timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (*timer < 0 || kdns_io_watch(watch, *timer, KDNS_TIMER)) {
            if (watch >= 0)
                close(watch);
            if (*timer >= 0)
                close(*timer);
            return -1;
        }
        return watch;
    }

    /* Let the timer go off at a time of CLOCK_MONOTONIC, in ns. */
    static void kdns_io_arm(int timer, uint64_t at) {
        struct itimerspec when;
        memset(&when, 0, sizeof when);
        when.it_value.tv_sec = (time_t) (at / 1000000000u);
        when.it_value.tv_nsec = (long) (at % 1000000000u);
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }

    static void kdns_io_rang(int timer) {
        uint64_t times;
        if (read(timer, &times, sizeof times) < 0)
            return;
    }

    static int kdns_io_wait(int watch, kdns_upstream_io *io) {
        int count;
        do
            count = epoll_wait(watch, io->events, KDNS_EVENTS, 0);
        while (count < 0 && errno == EINTR);
        return count;
    }

    static inline uint32_t kdns_io_event(const kdns_upstream_io *io, int i) {
        return io->events[i].data.u32;
    }

    /* How many datagrams came; 0: none, -1: the socket is broken, which is how a port that is not there shows. */
    static int kdns_io_read(int fd, kdns_upstream_io *io) {
        int count;
        do
            count = recvmmsg(fd, io->in, KDNS_ANSWERED_BATCH, MSG_DONTWAIT, NULL);
        while (count < 0 && errno == EINTR);
        return count >= 0 ? count : errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    }

    static inline size_t kdns_io_length(const kdns_upstream_io *io, int i) {
        return io->in[i].msg_hdr.msg_flags & MSG_TRUNC ? 0 : io->in[i].msg_len;
    }

    /* Send queries from the one at `at` on; how many were sent, -1 where the first was not. */
    static int kdns_io_ask(int fd, kdns_upstream_io *io, int at, int count) {
        int sent;
        do
            sent = sendmmsg(fd, io->asked + at, (unsigned) (count - at), MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
        return sent;
    }

    static inline void kdns_io_set_question(kdns_upstream_io *io, int i, size_t length) {
        io->asked_vector[i].iov_len = length;
    }

    static inline void kdns_io_set_reply(kdns_upstream_io *io, int i, size_t length, void *peer, size_t peer_length,
                                         void *control, size_t control_length) {
        struct msghdr *header = &io->out[i].msg_hdr;
        io->out_vector[i].iov_len = length;
        header->msg_name = peer;
        header->msg_namelen = (socklen_t) peer_length;
        header->msg_control = control_length ? control : NULL;
        header->msg_controllen = control_length;
        header->msg_flags = 0;
    }

    /* Random octets of the kernel's generator; 0: there are none. */
    static int kdns_io_random(void *into, size_t size) {
        uint8_t *at = into;
        while (size) {
            ssize_t got = getrandom(at, size, 0);
            if (got <= 0) {
                if (got < 0 && errno == EINTR)
                    continue;
                return 0;
            }
            at += got;
            size -= (size_t) got;
        }
        return 1;
    }

    static inline uint64_t kdns_io_clock(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
    }

    static inline int kdns_io_is_v6(const void *peer) {
        return ((const struct sockaddr *) peer)->sa_family == AF_INET6;
    }
    """
    ctypedef struct kdns_upstream_io:
        uint8_t** question
        uint8_t** answer
        uint8_t** reply
        mmsghdr* out
    enum:
        KDNS_ASKED_BATCH
        KDNS_ANSWERED_BATCH
        KDNS_EVENTS
        KDNS_ANSWER
    const uint32_t KDNS_TIMER
    void kdns_io_prepare(kdns_upstream_io* io) noexcept nogil
    int kdns_io_open(
        int watch, uint32_t number, const void* to, size_t to_length, const void* source, size_t from_length
    ) noexcept nogil
    int kdns_io_start(int* timer) noexcept nogil
    void kdns_io_arm(int timer, uint64_t at) noexcept nogil
    void kdns_io_rang(int timer) noexcept nogil
    int kdns_io_wait(int watch, kdns_upstream_io* io) noexcept nogil
    uint32_t kdns_io_event(const kdns_upstream_io* io, int i) noexcept nogil
    int kdns_io_read(int fd, kdns_upstream_io* io) noexcept nogil
    size_t kdns_io_length(const kdns_upstream_io* io, int i) noexcept nogil
    int kdns_io_ask(int fd, kdns_upstream_io* io, int at, int count) noexcept nogil
    void kdns_io_set_question(kdns_upstream_io* io, int i, size_t length) noexcept nogil
    void kdns_io_set_reply(
        kdns_upstream_io* io, int i, size_t length, void* peer, size_t peer_length, void* control,
        size_t control_length,
    ) noexcept nogil
    bint kdns_io_random(void* into, size_t size) noexcept nogil
    uint64_t kdns_io_clock() noexcept nogil
    bint kdns_io_is_v6(const void* peer) noexcept nogil
    int close(int fd) noexcept nogil
