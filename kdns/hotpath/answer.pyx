# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# The packet is read only at offsets wire.parse() has vouched for; the reply is bounded by `limit`, which callers keep
# below their buffer's size.
"""From a message to its reply, when the table or the message alone decides it.

A reply is the query's own first octets (header and question, so the client's letter case comes back by itself), a few
patched fields, and a body copied from the table: the body's compression pointers lead into the question, whose length
it was rendered for. Whatever is unusual is a miss and goes to the slow path, which answers in the same octets wherever
both can.

    header  id | QR AA TC RD | CD rcode | 1 | answers | authorities | additionals
    then    question as sent | body (rotated, or cut at whole records) | OPT
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from kdns.hotpath.table cimport (
    BLOB_ALIAS, BLOB_HAS_PORTS, BLOB_HAS_SERIAL, BLOB_INDEXED, BLOB_LEAVES_ZONE, BLOB_SPELLS_ZONE, BlobHeader, blob_body,
    blob_record_offsets,
)
from kdns.hotpath.wire cimport (
    HEADER_SIZE, VERDICT_BADVERS, VERDICT_CLASS, VERDICT_DROP_RESPONSE, VERDICT_DROP_SHORT, VERDICT_FORMERR,
    VERDICT_NOTIMP, VERDICT_QUERY, Verdict, parse,
)

import os

cdef enum:
    MIN_UDP_PAYLOAD = 512       # octets; a client that advertises less still gets this (RFC 6891, 6.2.3)
    OWN_UDP_PAYLOAD = 1232      # octets; advertised, and never exceeded over UDP (DNS flag day 2020)
    MAX_MESSAGE = 65535         # octets of a message over TCP (RFC 1035, 4.2.2)
    OPT_SIZE = 11
    KEEPALIVE_SIZE = 6
    KEEPALIVE_UNITS = 100       # of 100 ms: connections are kept for 10 s when idle (RFC 7828, 3.1)
    RCODE_FORMERR = 1
    RCODE_NXDOMAIN = 3
    RCODE_NOTIMP = 4
    RCODE_REFUSED = 5
    TYPE_DS = 43
    TYPE_IXFR = 251
    TYPE_AXFR = 252
    SERIAL_AT = 34              # offset of the serial in a rendered SOA record


cdef class Responder:
    """The routes of one listener over the response table.

    `routes` is a sequence of tuples in the order of the struct Route, most specific suffix first; a name no suffix holds
    is refused. `counters` is a writable buffer of OUTCOMES u64, one writer each; None keeps them private.
    """

    def __cinit__(self, routes, *, bint passes_other_classes=False, counters=None):
        cdef unsigned char[::1] octets = bytearray(8 * OUTCOMES) if counters is None else counters
        cdef Route* route
        cdef bytes suffix, soa
        cdef size_t at
        if octets.shape[0] < 8 * OUTCOMES:
            raise ValueError(f"{octets.shape[0]} octets of counters, expected {8 * OUTCOMES}")
        self.counters_owner = octets
        self.counters = <uint64_t*> &octets[0]
        self.passes_other_classes = passes_other_classes
        self.route_count = len(routes)
        self.routes = <Route*> calloc(self.route_count + 1, sizeof(Route))
        if self.routes == NULL:
            raise MemoryError()
        memcpy(&self.random_state, PyBytes_AS_STRING(os.urandom(8)), 8)
        self.random_state |= 1
        for at, given in enumerate(routes):
            route = self.routes + at
            suffix, soa = given.suffix, given.soa
            if not 0 < len(suffix) <= 255 or len(soa) != SOA_BODY:
                raise ValueError(f"route {at}: suffix of {len(suffix)} octets, SOA of {len(soa)}")
            route.action = given.action
            route.view = given.view
            route.serial = given.serial_index
            route.rotates = given.rotates
            route.nxdomain_is_miss = given.nxdomain_is_miss
            route.port_depth = given.port_depth
            route.miss_depth = given.miss_depth
            route.zone_labels = given.zone_labels
            route.suffix_length = <uint16_t> len(suffix)
            route.zone_length = given.zone_length
            memcpy(route.soa, PyBytes_AS_STRING(soa), SOA_BODY)
            memcpy(route.suffix, PyBytes_AS_STRING(suffix), len(suffix))

    def __dealloc__(self):
        free(self.routes)

    def set_table(self, Table table):
        """Answer from `table` from the next message on; None makes every name of a zone a miss."""
        self.table = table

    def respond_once(self, const unsigned char[::1] packet not None, *, bint stream=False, chance=None):
        """(outcome, reply or None) for one message; `chance` stands for the random draw. For tests and tools."""
        cdef uint8_t reply[MAX_MESSAGE + 1]
        cdef size_t size = 0
        cdef uint64_t drawn = self.draw() if chance is None else chance
        cdef Outcome outcome
        self.enter()
        outcome = self.respond(
            &packet[0] if packet.shape[0] else NULL, packet.shape[0],
            MAX_MESSAGE if stream else OWN_UDP_PAYLOAD, stream, drawn, reply, &size,
        )
        self.leave()
        return <int> outcome, PyBytes_FromStringAndSize(<char*> reply, size) if size else None

    cdef void enter(self) noexcept nogil:
        """Begin a batch: until leave() the table's memory is not reused."""
        if self.table is not None:
            self.table.enter()

    cdef void leave(self) noexcept nogil:
        if self.table is not None:
            self.table.leave()

    cdef uint64_t draw(self) noexcept nogil:
        """A number nobody outside can foresee for long; it spreads load and guards nothing (xorshift64*)."""
        self.random_state ^= self.random_state >> 12
        self.random_state ^= self.random_state << 25
        self.random_state ^= self.random_state >> 27
        return self.random_state * 0x2545F4914F6CDD1DULL

    cdef Outcome respond(
        self, const uint8_t* packet, Py_ssize_t length, size_t limit, bint stream, uint64_t chance,
        uint8_t* reply, size_t* reply_length,
    ) noexcept nogil:
        """Answer one message into `reply`, which has room for `limit` octets; a length of 0 means no reply.

        To be called between enter() and leave().
        """
        cdef Query query
        cdef Verdict verdict = parse(packet, length, &query)
        cdef const Route* route
        reply_length[0] = 0
        if verdict == VERDICT_QUERY or (verdict == VERDICT_CLASS and self.passes_other_classes):
            if verdict == VERDICT_CLASS or query.qtype == TYPE_DS:
                return OUTCOME_MISS     # the parent's zone, not the longest, answers for DS (RFC 4035, 3.1.4.1)
            route = _find_route(self.routes, self.route_count, &query)
            if route == NULL or route.action == ROUTE_REFUSE:
                reply_length[0] = _without_body(packet, &query, RCODE_REFUSED, 0, stream, reply)
                return OUTCOME_REFUSED
            if route.action == ROUTE_MISS or self.table is None or not self.table.header.synced[route.view]:
                return OUTCOME_MISS
            if not stream:
                limit = min(limit, max(MIN_UDP_PAYLOAD, <size_t> query.payload_size))
            return _from_table(self.table, route, packet, &query, limit, stream, chance, reply, reply_length)
        if verdict == VERDICT_FORMERR:
            reply_length[0] = _header_only(packet, RCODE_FORMERR, reply)
            return OUTCOME_FORMERR
        if verdict == VERDICT_CLASS:
            reply_length[0] = _without_body(packet, &query, RCODE_REFUSED, 0, stream, reply)
            return OUTCOME_REFUSED
        if verdict == VERDICT_NOTIMP:
            reply_length[0] = _header_only(packet, RCODE_NOTIMP, reply)
            return OUTCOME_NOTIMP
        if verdict == VERDICT_BADVERS:
            reply_length[0] = _without_body(packet, &query, 0, 1, stream, reply)
            return OUTCOME_BADVERS
        return OUTCOME_DROP_SHORT if verdict == VERDICT_DROP_SHORT else OUTCOME_DROP_RESPONSE


cdef const Route* _find_route(const Route* routes, size_t count, const Query* query) noexcept nogil:
    """The first, so the most specific, route whose suffix ends the name at a label boundary."""
    cdef const Route* route = routes
    cdef const Route* end = routes + count
    cdef unsigned int at
    while route < end:
        if route.suffix_length <= query.name_length:
            at = query.name_length - route.suffix_length
            if query.boundaries[at >> 6] >> (at & 63) & 1 and memcmp(query.name + at, route.suffix, route.suffix_length) == 0:
                return route
        route += 1
    return NULL


cdef Outcome _from_table(
    Table table, const Route* route, const uint8_t* packet, const Query* query, size_t limit, bint stream,
    uint64_t chance, uint8_t* reply, size_t* reply_length,
) noexcept nogil:
    cdef uint64_t name_hash = table.hash_name(query.name, query.name_length, route.view)
    cdef const BlobHeader* blob = NULL
    cdef Outcome outcome
    if query.qtype != 0:
        blob = table.find(query.name, query.name_length, name_hash, query.qtype, route.view)
    if blob != NULL:
        return _hit(table, route, blob, packet, query, limit, stream, chance, reply, reply_length)
    if query.qtype == TYPE_AXFR or query.qtype == TYPE_IXFR:
        return OUTCOME_MISS
    blob = table.find(query.name, query.name_length, name_hash, 0, route.view)
    if blob == NULL:
        if route.nxdomain_is_miss or _may_be_spelled_otherwise(table, route, query):
            return OUTCOME_MISS
        outcome = OUTCOME_NXDOMAIN
    elif blob.flags & BLOB_ALIAS:
        return OUTCOME_MISS
    else:
        # The name may have come between the two look-ups: its types were there before it was, so they are now.
        if query.qtype != 0:
            blob = table.find(query.name, query.name_length, name_hash, query.qtype, route.view)
            if blob != NULL:
                return _hit(table, route, blob, packet, query, limit, stream, chance, reply, reply_length)
        outcome = OUTCOME_NODATA
    reply_length[0] = _negative(
        table, route, packet, query, RCODE_NXDOMAIN if outcome == OUTCOME_NXDOMAIN else 0, stream, reply
    )
    return outcome


cdef bint _may_be_spelled_otherwise(Table table, const Route* route, const Query* query) noexcept nogil:
    """Whether a name the table does not hold may be a quirk's spelling of one it does."""
    cdef unsigned int depth = query.labels - route.zone_labels
    cdef unsigned int at
    cdef const BlobHeader* blob
    if route.miss_depth and depth >= route.miss_depth:
        return True
    if depth != route.port_depth or route.port_depth == 0:
        return False
    at = 1 + query.name[0]
    at += 1 + query.name[at]
    blob = table.find(
        query.name + at, query.name_length - at,
        table.hash_name(query.name + at, query.name_length - at, route.view), 0, route.view,
    )
    return blob != NULL and blob.flags & BLOB_HAS_PORTS != 0


cdef inline Outcome _hit(
    Table table, const Route* route, const BlobHeader* blob, const uint8_t* packet, const Query* query, size_t limit,
    bint stream, uint64_t chance, uint8_t* reply, size_t* reply_length,
) noexcept nogil:
    if blob.flags & BLOB_LEAVES_ZONE or (blob.flags & BLOB_SPELLS_ZONE and query.has_upper_case):
        return OUTCOME_MISS
    return _positive(table, route, blob, packet, query, limit, stream, chance, reply, reply_length)


cdef Outcome _positive(
    Table table, const Route* route, const BlobHeader* blob, const uint8_t* packet, const Query* query, size_t limit,
    bint stream, uint64_t chance, uint8_t* reply, size_t* reply_length,
) noexcept nogil:
    cdef size_t size = query.question_end
    cdef size_t room = limit - size - _opt_size(query, stream)
    cdef const uint8_t* body = blob_body(blob)
    cdef uint16_t answers = blob.answers, additionals = blob.additionals
    cdef bint cut = blob.body_length > room
    memcpy(reply, packet, size)
    if blob.record_length and (cut or route.rotates):
        size += _copy_rotated(blob, body, room, chance, reply + size, &answers)
    elif not cut:
        memcpy(reply + size, body, blob.body_length)
        if blob.flags & BLOB_HAS_SERIAL:
            _put_u32(reply + size + SERIAL_AT, table.header.serials[route.serial])
        size += blob.body_length
    else:
        size += _copy_cut(blob, body, room, chance, reply + size, &answers, &additionals)
    _finish_header(packet, 0x84 | (0x02 if cut else 0), 0, reply)
    _put_u16(reply + 6, answers)
    _put_u16(reply + 8, 0)
    _put_u16(reply + 10, additionals + query.has_edns)
    reply_length[0] = size + _put_opt(query, 0, stream, reply + size)
    return OUTCOME_TRUNCATED if cut else OUTCOME_ANSWER


cdef size_t _copy_rotated(
    const BlobHeader* blob, const uint8_t* body, size_t room, uint64_t chance, uint8_t* out, uint16_t* answers
) noexcept nogil:
    """Copy records that are all alike, from a random one on, around the end, as many as fit."""
    cdef size_t head = blob.rotate_from, length = blob.record_length
    cdef size_t count = (blob.body_length - head) / length
    cdef size_t start = ((chance >> 32) * count) >> 32
    cdef size_t fit = min(count, (room - head) / length if room > head else 0)
    cdef size_t before_end = min(fit, count - start)
    if room < head:                     # a chain alone over the limit: cut like any other body
        answers[0] = 0
        return 0
    memcpy(out, body, head)
    memcpy(out + head, body + head + start * length, before_end * length)
    memcpy(out + head + before_end * length, body + head, (fit - before_end) * length)
    answers[0] = <uint16_t> (blob.answers - count + fit)
    return head + fit * length


cdef size_t _copy_cut(
    const BlobHeader* blob, const uint8_t* body, size_t room, uint64_t chance, uint8_t* out,
    uint16_t* answers, uint16_t* additionals,
) noexcept nogil:
    """Copy whole records, as many as fit: answers first, from a random one on where not all of them fit."""
    cdef size_t at = 0, next_at, taken = 0
    cdef unsigned int count = blob.answers, index, record
    cdef const uint32_t* offsets
    cdef size_t answers_end
    if blob.flags & BLOB_INDEXED:
        offsets = blob_record_offsets(blob)
        answers_end = _record_end(body, offsets[count - 1])
        if answers_end > room:
            record = <unsigned int> (((chance >> 32) * count) >> 32)
            for index in range(count):
                at = offsets[record]
                next_at = offsets[record + 1] if record + 1 < count else answers_end
                if taken + next_at - at > room:
                    break
                memcpy(out + taken, body + at, next_at - at)
                taken += next_at - at
                record = record + 1 if record + 1 < count else 0
            else:
                index = count
            answers[0] = <uint16_t> index
            additionals[0] = 0
            return taken
        at = answers_end
        index = count
    else:
        index = 0
    while index < <unsigned int> (count + blob.additionals):
        next_at = _record_end(body, at)
        if next_at > room:
            break
        at = next_at
        index += 1
    memcpy(out, body, at)
    answers[0] = <uint16_t> min(index, count)
    additionals[0] = <uint16_t> (index - min(index, count))
    return at


cdef size_t _record_end(const uint8_t* body, size_t at) noexcept nogil:
    """The offset behind the record at `at` of a body the renderer made."""
    while body[at] and body[at] < 0xC0:
        at += 1 + body[at]
    at += 2 if body[at] else 1
    return at + 10 + ((body[at + 8] << 8) | body[at + 9])


cdef size_t _negative(
    Table table, const Route* route, const uint8_t* packet, const Query* query, unsigned int rcode, bint stream,
    uint8_t* reply,
) noexcept nogil:
    """No answer, and the zone's SOA record: its names are pointers to where the zone begins in the question."""
    cdef size_t size = query.question_end
    cdef unsigned int zone = 0xC000 | (HEADER_SIZE + query.name_length - route.zone_length)
    cdef uint8_t* soa = reply + size
    memcpy(reply, packet, size)
    memcpy(soa, route.soa, SOA_BODY)
    _put_u16(soa, zone)
    _put_u16(soa + 19, zone)            # behind "ns.dns"
    _put_u16(soa + 32, zone)            # behind "hostmaster"
    _put_u32(soa + SERIAL_AT, table.header.serials[route.serial])
    _finish_header(packet, 0x84, rcode, reply)
    _put_u16(reply + 6, 0)
    _put_u16(reply + 8, 1)
    _put_u16(reply + 10, query.has_edns)
    size += SOA_BODY
    return size + _put_opt(query, 0, stream, reply + size)


cdef size_t _without_body(
    const uint8_t* packet, const Query* query, unsigned int rcode, unsigned int extended_rcode, bint stream, uint8_t* reply
) noexcept nogil:
    """An error this server makes itself: header, question, OPT; not authoritative."""
    cdef size_t size = query.question_end
    memcpy(reply, packet, size)
    _finish_header(packet, 0x80, rcode, reply)
    _put_u16(reply + 6, 0)
    _put_u16(reply + 8, 0)
    _put_u16(reply + 10, query.has_edns)
    return size + _put_opt(query, extended_rcode, stream, reply + size)


cdef size_t _header_only(const uint8_t* packet, unsigned int rcode, uint8_t* reply) noexcept nogil:
    """An error for a message whose question cannot be trusted: all flags but QR clear (RFC 8906, 8.1.4)."""
    memset(reply, 0, HEADER_SIZE)
    memcpy(reply, packet, 2)
    reply[2] = 0x80 | (packet[2] & 0x78)
    reply[3] = <uint8_t> rcode
    return HEADER_SIZE


cdef inline void _finish_header(const uint8_t* packet, unsigned int flags, unsigned int rcode, uint8_t* reply) noexcept nogil:
    reply[2] = <uint8_t> (flags | (packet[2] & 0x01))       # RD comes back
    reply[3] = <uint8_t> ((packet[3] & 0x10) | rcode)       # CD too; RA, Z and AD are 0
    _put_u16(reply + 4, 1)


cdef inline size_t _opt_size(const Query* query, bint stream) noexcept nogil:
    if not query.has_edns:
        return 0
    return OPT_SIZE + (KEEPALIVE_SIZE if stream and query.keepalive else 0)


cdef size_t _put_opt(const Query* query, unsigned int extended_rcode, bint stream, uint8_t* out) noexcept nogil:
    if not query.has_edns:
        return 0
    memset(out, 0, OPT_SIZE)
    out[2] = 41
    _put_u16(out + 3, OWN_UDP_PAYLOAD)
    out[5] = <uint8_t> extended_rcode
    out[7] = <uint8_t> (query.dnssec_ok << 7)
    if not (stream and query.keepalive):
        return OPT_SIZE
    out[10] = KEEPALIVE_SIZE
    _put_u16(out + 11, 11)
    _put_u16(out + 13, 2)
    _put_u16(out + 15, KEEPALIVE_UNITS)
    return OPT_SIZE + KEEPALIVE_SIZE


cdef inline void _put_u16(uint8_t* at, unsigned int value) noexcept nogil:
    at[0] = <uint8_t> (value >> 8)
    at[1] = <uint8_t> value


cdef inline void _put_u32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t> (value >> 24)
    at[1] = <uint8_t> (value >> 16)
    at[2] = <uint8_t> (value >> 8)
    at[3] = <uint8_t> value
