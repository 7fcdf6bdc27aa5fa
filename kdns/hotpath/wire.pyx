# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# boundscheck and the like are off because parse() itself checks every offset against the packet's length, once,
# before any octet is read; nothing behind it reads the packet without an offset that parse() has vouched for.
"""The one function that decides what a message is, for every transport.

    0               12                 12 + name            question_end
    +---------------+-------------------+------+------+------------------------------+---------
    | header        | qname             | type | class| authority, additional (OPT)  | ignored
    +---------------+-------------------+------+------+------------------------------+---------

`parse` reads a message once, front to back, and fills a Query. It believes no count: each record is walked, and a
record that is not there is a format error. Nothing is allocated.
"""

from libc.string cimport memcpy, memset


cdef enum:
    OPT = 41
    CLASS_IN = 1
    OPTION_NSID = 3
    OPTION_TCP_KEEPALIVE = 11
    MAX_RECORDS = 3             # authority 1 (IXFR's SOA), additional 2 (OPT, TSIG): as CoreDNS accepts


cdef inline uint16_t _u16(const uint8_t* at) noexcept nogil:
    return <uint16_t> ((at[0] << 8) | at[1])


cdef inline uint64_t _fold_case(uint64_t word) noexcept nogil:
    # Eight octets at once: add 32 to each octet in 'A'..'Z'. Length octets (at most 63) are below 'A'.
    cdef uint64_t seven = word & 0x7F7F7F7F7F7F7F7FULL
    cdef uint64_t from_a = seven + 0x3F3F3F3F3F3F3F3FULL
    cdef uint64_t past_z = seven + 0x2525252525252525ULL
    cdef uint64_t upper = from_a & ~past_z & ~word & 0x8080808080808080ULL
    return word | (upper >> 2)


cdef Verdict parse(const uint8_t* packet, Py_ssize_t length, Query* query) noexcept nogil:
    """Decide what `packet` is; on VERDICT_QUERY, VERDICT_BADVERS and VERDICT_CLASS, `query` is whole."""
    if length < HEADER_SIZE:
        return VERDICT_DROP_SHORT
    if packet[2] & 0x80:
        return VERDICT_DROP_RESPONSE
    if packet[2] & 0x78:
        return VERDICT_NOTIMP
    cdef unsigned int authorities = _u16(packet + 8)
    cdef unsigned int additionals = _u16(packet + 10)
    if _u16(packet + 4) != 1 or _u16(packet + 6) != 0 or authorities > 1 or additionals > 2:
        return VERDICT_FORMERR
    if not _parse_question(packet, length, query):
        return VERDICT_FORMERR
    query.has_edns = query.dnssec_ok = query.keepalive = query.nsid = 0
    query.payload_size = 0
    cdef int version = 0
    if authorities + additionals:
        version = _parse_records(packet, length, authorities, authorities + additionals, query)
        if version < 0:
            return VERDICT_FORMERR
        if version > 0:
            return VERDICT_BADVERS
    if query.qclass != CLASS_IN:
        return VERDICT_CLASS
    return VERDICT_QUERY


cdef bint _parse_question(const uint8_t* packet, Py_ssize_t length, Query* query) noexcept nogil:
    cdef Py_ssize_t at = HEADER_SIZE
    cdef unsigned int label, offset
    query.labels = 0
    query.boundaries[0] = query.boundaries[1] = query.boundaries[2] = query.boundaries[3] = 0
    while True:
        if at >= length:
            return False
        label = packet[at]
        offset = <unsigned int> (at - HEADER_SIZE)
        if offset >= MAX_NAME:
            return False
        query.boundaries[offset >> 6] |= (<uint64_t> 1) << (offset & 63)
        at += 1
        if label == 0:
            break
        if label > 63:              # no pointer is legal in the name of a question: there is nothing before it
            return False
        query.labels += 1
        at += label
    if at + 4 > length:
        return False
    query.name_length = <uint16_t> (at - HEADER_SIZE)
    query.qtype = _u16(packet + at)
    query.qclass = _u16(packet + at + 2)
    query.question_end = <uint16_t> (at + 4)
    _copy_folded(packet + HEADER_SIZE, query)
    return True


cdef void _copy_folded(const uint8_t* name, Query* query) noexcept nogil:
    cdef unsigned int at = 0, size = query.name_length
    cdef uint64_t word, folded, changed = 0
    memset(query.name + (size & ~7U), 0, 16)
    memcpy(query.name, name, size)
    while at < size:
        memcpy(&word, query.name + at, 8)
        folded = _fold_case(word)
        changed |= folded ^ word
        memcpy(query.name + at, &folded, 8)
        at += 8
    query.has_upper_case = changed != 0


cdef int _parse_records(
    const uint8_t* packet, Py_ssize_t length, unsigned int authorities, unsigned int records, Query* query
) noexcept nogil:
    """Walk the records behind the question. The EDNS version, 0 without EDNS; -1 for a format error."""
    cdef Py_ssize_t at = query.question_end, owner, end
    cdef unsigned int index
    cdef int version = 0
    for index in range(records):
        owner = at
        at = _skip_name(packet, length, at)
        if at < 0 or at + 10 > length:
            return -1
        end = at + 10 + _u16(packet + at + 8)
        if end > length:
            return -1
        if _u16(packet + at) == OPT:
            # One OPT, in the additional section, owned by the root (RFC 6891, 6.1.1 and 6.1.2).
            if query.has_edns or index < authorities or at != owner + 1:
                return -1
            query.has_edns = 1
            query.payload_size = _u16(packet + at + 2)
            version = packet[at + 5]
            query.dnssec_ok = packet[at + 6] >> 7
            if not _parse_options(packet, at + 10, end, query):
                return -1
        at = end
    return version


cdef Py_ssize_t _skip_name(const uint8_t* packet, Py_ssize_t length, Py_ssize_t at) noexcept nogil:
    """The offset behind the name at `at`, or -1. A pointer must lead backwards; it is not followed."""
    cdef Py_ssize_t start = at
    cdef unsigned int label
    while at < length:
        label = packet[at]
        if label == 0:
            return at + 1
        if label >= 0xC0:
            if at + 2 > length:
                return -1
            if (_u16(packet + at) & 0x3FFF) >= start or (_u16(packet + at) & 0x3FFF) < HEADER_SIZE:
                return -1
            return at + 2
        if label > 63 or at - start + label >= MAX_NAME:
            return -1
        at += 1 + label
    return -1


cdef bint _parse_options(const uint8_t* packet, Py_ssize_t at, Py_ssize_t end, Query* query) noexcept nogil:
    while at < end:
        if at + 4 > end:
            return False
        if _u16(packet + at) == OPTION_TCP_KEEPALIVE:
            query.keepalive = 1
        elif _u16(packet + at) == OPTION_NSID:
            query.nsid = 1
        at += 4 + _u16(packet + at + 2)
    return at == end


def inspect(const unsigned char[::1] packet not None):
    """What the parser makes of `packet`: (verdict, fields of the query); for tests and tools."""
    cdef Query query
    cdef Verdict verdict = parse(&packet[0] if packet.shape[0] else NULL, packet.shape[0], &query)
    if verdict in (VERDICT_QUERY, VERDICT_BADVERS, VERDICT_CLASS):
        return <int> verdict, {
            "name": bytes(query.name[: query.name_length]),
            "qtype": query.qtype,
            "qclass": query.qclass,
            "question_end": query.question_end,
            "labels": query.labels,
            "has_edns": bool(query.has_edns),
            "payload_size": query.payload_size,
            "dnssec_ok": bool(query.dnssec_ok),
            "keepalive": bool(query.keepalive),
            "nsid": bool(query.nsid),
            "has_upper_case": bool(query.has_upper_case),
        }
    return <int> verdict, {}
