# Batches of datagrams leave here, of udp.pyx and of forward.pyx alike.

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <poll.h>
    #include <sys/socket.h>

    #define KDNS_SEND_WAIT_MS 10      /* a full send buffer is waited for this long, then the batch is dropped */

    /* Send the first `count` datagrams; how many could not be sent. */
    static inline int kdns_send_batch(int fd, struct mmsghdr *out, int count) {
        int at = 0, unsent = 0, waited = 0;
        while (at < count) {
            int sent = sendmmsg(fd, out + at, (unsigned) (count - at), MSG_DONTWAIT);
            if (sent > 0) {
                at += sent;
                continue;
            }
            if (sent < 0 && errno == EINTR)
                continue;
            if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) {
                struct pollfd writable = { fd, POLLOUT, 0 };
                if (waited++ || poll(&writable, 1, KDNS_SEND_WAIT_MS) <= 0)
                    return unsent + count - at;
                continue;
            }
            at++;               /* this peer cannot be reached; the others may */
            unsent++;
        }
        return unsent;
    }
    """
    struct msghdr:
        void* msg_name
        unsigned int msg_namelen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int kdns_send_batch(int fd, mmsghdr* out, int count) noexcept nogil
