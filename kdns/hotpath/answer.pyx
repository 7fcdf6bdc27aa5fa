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

from kdns.hotpath.cache_memory cimport LOG_DENIAL, LOG_SUCCESS, CacheMemory
from kdns.hotpath.cached cimport Taken, take
from kdns.hotpath.detours cimport Detours, is_detour
from kdns.hotpath.meter cimport WRITER_CACHE, WRITER_EXTERNAL, WRITER_KUBERNETES, WRITER_SERVER, Meters, Writer
from kdns.hotpath.table cimport (
    BLOB_ALIAS, BLOB_HAS_PORTS, BLOB_HAS_SERIAL, BLOB_INDEXED, BLOB_LEAVES_ZONE, BLOB_SPELLS_ZONE, UNLISTED_ALL,
    BlobHeader, blob_body, blob_record_offsets,
)
from kdns.hotpath.wire cimport (
    HEADER_SIZE, MAX_NAME, NAME_BUFFER, VERDICT_BADVERS, VERDICT_CLASS, VERDICT_DROP_RESPONSE, VERDICT_DROP_SHORT,
    VERDICT_FORMERR, VERDICT_NOTIMP, VERDICT_QUERY, Verdict, parse, put_u16,
)

import os
from array import array

cdef enum:
    MIN_UDP_PAYLOAD = 512       # octets; a client that advertises less still gets this (RFC 6891, 6.2.3)
    OWN_UDP_PAYLOAD = 1232      # octets; advertised, and never exceeded over UDP (DNS flag day 2020)
    MAX_MESSAGE = 65535         # octets of a message over TCP (RFC 1035, 4.2.2)
    OPT_SIZE = 11
    A_RECORD = 16               # octets of an address record whose owner is a pointer
    AAAA_RECORD = 28
    KEEPALIVE_SIZE = 6
    KEEPALIVE_UNITS = 100       # of 100 ms: connections are kept for 10 s when idle (RFC 7828, 3.1)
    RCODE_FORMERR = 1
    RCODE_NXDOMAIN = 3
    RCODE_NOTIMP = 4
    RCODE_REFUSED = 5
    TYPE_A = 1
    TYPE_SOA = 6
    TYPE_AAAA = 28
    TYPE_DS = 43
    TYPE_IXFR = 251
    TYPE_AXFR = 252
    TYPE_MX = 15
    TYPE_ANY = 255
    SOA_RDATA_AT = 12           # octets before the data of a rendered SOA record
    SOA_NUMBERS = 20            # octets behind its names


cdef class Responder:
    """The routes of one listener over the response table.

    `routes` is a sequence of tuples in the order of the struct Route, most specific suffix first; a name no suffix holds
    is refused. `counters` is a writable buffer of OUTCOMES u64, one writer each; None keeps them private. Where there are
    `meters`, what is answered is counted there too, as routes say; `dropped` is the meter of what is refused unread.
    `cache` is where routes with a CachePolicy look up what the table does not decide; `numbers` is the row of the metrics
    registry, whose places the policies count in.
    """

    def __cinit__(
        self, routes, *, bint passes_other_classes=False, counters=None, Meters meters=None, uint32_t dropped=0,
        CacheMemory cache=None, numbers=None,
    ):
        cdef double[::1] row = array("d", [0]) if numbers is None else numbers
        cdef Py_ssize_t place
        cdef unsigned char[::1] octets = bytearray(8 * OUTCOMES) if counters is None else counters
        cdef Route* route
        cdef bytes suffix, soa
        cdef Detours detours
        cdef size_t at
        if octets.shape[0] < 8 * OUTCOMES:
            raise ValueError(f"{octets.shape[0]} octets of counters, expected {8 * OUTCOMES}")
        self.counters_owner = octets
        self.detours_owners = []
        self.engines = []
        self.counters = <uint64_t*> &octets[0]
        self.passes_other_classes = passes_other_classes
        self.cache = cache
        self.numbers_owner = row
        self.numbers = &row[0]
        self.meters = meters
        self.dropped = 0 if meters is None else dropped
        self.route_count = len(routes)
        self.routes = <Route*> calloc(self.route_count + 1, sizeof(Route))
        if self.routes == NULL:
            raise MemoryError()
        memcpy(&self.random_state, PyBytes_AS_STRING(os.urandom(8)), 8)
        self.random_state |= 1
        for at, given in enumerate(routes):
            route = self.routes + at
            suffix, soa = given.suffix, given.soa
            if not 0 < len(suffix) <= 255 or len(soa) > MAX_SOA:
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
            route.udp_limit = given.udp_limit
            route.any_is_miss = given.any_is_miss
            route.additional_is_miss = given.additional_is_miss
            route.error_is_miss = given.error_is_miss
            route.nsid_is_miss = given.nsid_is_miss
            if given.detours is not None:
                detours = given.detours
                self.detours_owners.append(detours)     # its table must live as long as this does
                route.detours = detours.set
            route.meter = 0 if meters is None else given.meter
            route.writer = WRITER_EXTERNAL if given.is_external else WRITER_KUBERNETES
            if cache is not None and given.cache is not None:
                for place in given.cache.counters:
                    if not 0 <= place < row.shape[0] and numbers is not None:
                        raise ValueError(f"route {at}: a counter at {place}, the row has {row.shape[0]}")
                _set_policy(route, given.cache, numbers is not None)
            if given.forwarding is not None and (cache is not None or given.cache is None):
                self._set_forwarding(route, given.forwarding)
            if numbers is not None and given.cache_counters:
                for place in given.cache_counters:
                    if not 0 <= place < row.shape[0]:
                        raise ValueError(f"route {at}: a counter at {place}, the row has {row.shape[0]}")
                route.counts_cache = True
                route.cache_requests, route.cache_hits[LOG_SUCCESS], route.cache_hits[LOG_DENIAL] = given.cache_counters
            memcpy(route.soa, PyBytes_AS_STRING(soa), len(soa))
            route.soa_length = <uint8_t> len(soa)
            if route.action == ROUTE_TABLE and not _find_soa_names(route):
                raise ValueError(f"route {at}: an SOA record whose names do not end in pointers")
            memcpy(route.suffix, PyBytes_AS_STRING(suffix), len(suffix))
            if route.action == ROUTE_REWRITE:
                _set_rewrite(route, given.rewrite)

    cdef _set_forwarding(self, Route* route, given):
        cdef Detours detours
        if given.engine not in self.engines:
            self.engines.append(given.engine)
        route.engine = <uint16_t> (self.engines.index(given.engine) + 1)
        route.forward_limit, route.payload_limit = given.udp_limit, given.payload_limit
        route.forward_rotates = given.rotates
        if given.detours is not None:
            detours = given.detours
            self.detours_owners.append(detours)
            route.forward_detours = detours.set

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

    cdef void see(self, uint32_t meter, Writer writer, const Query* query, uint32_t size) noexcept nogil:
        """Leave behind what there is to count about the message."""
        self.seen.meter = meter
        self.seen.qtype = query.qtype
        self.seen.dnssec_ok = query.dnssec_ok
        self.seen.writer = <uint8_t> writer
        self.seen.size = size

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
        cdef Outcome outcome
        cdef size_t wanted = limit
        reply_length[0] = 0
        self.seen.meter = 0
        self.open = NULL
        if verdict == VERDICT_QUERY or (verdict == VERDICT_CLASS and self.passes_other_classes):
            if verdict == VERDICT_CLASS or query.qtype == TYPE_DS:
                return OUTCOME_MISS     # the parent's zone, not the longest, answers for DS (RFC 4035, 3.1.4.1)
            route = _find_route(self.routes, self.route_count, &query)
            if route == NULL or route.action == ROUTE_REFUSE:
                reply_length[0] = _without_body(packet, &query, RCODE_REFUSED, 0, stream, reply)
                self.see(self.dropped, WRITER_SERVER, &query, query.question_end)
                return OUTCOME_REFUSED
            if (query.qtype == TYPE_ANY and route.any_is_miss) or (query.nsid and route.nsid_is_miss):
                return OUTCOME_MISS
            if query.qtype == TYPE_MX and (route.rotates or route.forward_rotates):
                return OUTCOME_MISS     # such records are of unequal length: `loadbalance` shuffles them itself
            if route.detours != NULL and is_detour(route.detours, query.name, query.name_length):
                return OUTCOME_MISS
            if not stream:
                wanted = min(<size_t> route.udp_limit, max(MIN_UDP_PAYLOAD, <size_t> query.payload_size))
                limit = min(limit, wanted)
            if route.action == ROUTE_MISS:
                outcome = OUTCOME_UNKNOWN
            elif route.action == ROUTE_REWRITE:
                return self.from_other_name(route, packet, &query, limit, wanted, stream, chance, reply, reply_length)
            elif self.table is None or self.table.header.unlisted[route.view] == UNLISTED_ALL:
                return OUTCOME_MISS
            else:
                outcome = _from_table(self.table, route, packet, &query, limit, stream, chance, reply, reply_length)
            if outcome == OUTCOME_UNKNOWN:
                if route.cache.store == 0:
                    if route.engine:
                        self.open = route
                    return OUTCOME_MISS
                return self.from_cache(route, packet, &query, limit, wanted, stream, chance, reply, reply_length)
            if outcome == OUTCOME_TRUNCATED and wanted > limit:
                reply_length[0] = 0     # it need not be cut, but there is no room for it here
                return OUTCOME_MISS
            if route.meter and reply_length[0]:
                self.see(
                    route.meter, <Writer> route.writer, &query,
                    _whole_size(self.table, route, &query, outcome, stream, reply, reply_length[0]),
                )
                if route.counts_cache:
                    self.numbers[route.cache_requests] += 1
                    self.numbers[route.cache_hits[
                        LOG_DENIAL if outcome == OUTCOME_NODATA or outcome == OUTCOME_NXDOMAIN else LOG_SUCCESS
                    ]] += 1
            return outcome
        if verdict == VERDICT_FORMERR:
            reply_length[0] = _header_only(packet, RCODE_FORMERR, reply)
            return OUTCOME_FORMERR
        if verdict == VERDICT_CLASS:
            reply_length[0] = _without_body(packet, &query, RCODE_REFUSED, 0, stream, reply)
            self.see(self.dropped, WRITER_SERVER, &query, query.question_end)
            return OUTCOME_REFUSED
        if verdict == VERDICT_NOTIMP:
            reply_length[0] = _header_only(packet, RCODE_NOTIMP, reply)
            return OUTCOME_NOTIMP
        if verdict == VERDICT_BADVERS:
            reply_length[0] = _without_body(packet, &query, 0, 1, stream, reply)
            return OUTCOME_BADVERS
        return OUTCOME_DROP_SHORT if verdict == VERDICT_DROP_SHORT else OUTCOME_DROP_RESPONSE


    cdef Outcome from_other_name(
        self, const Route* route, const uint8_t* packet, const Query* query, size_t limit, size_t wanted, bint stream,
        uint64_t chance, uint8_t* reply, size_t* reply_length,
    ) noexcept nogil:
        """Answer with the addresses of the name that the question's becomes; whatever is not these is a miss."""
        cdef uint8_t name[NAME_BUFFER]
        cdef size_t kept = query.name_length - route.suffix_length, length = kept + route.becomes_length
        cdef const BlobHeader* blob
        cdef Outcome outcome
        cdef uint32_t owner
        if query.qtype != TYPE_A and query.qtype != TYPE_AAAA:
            return OUTCOME_MISS
        # A suffix is not among the names below it.
        if (kept != 0) == route.rewrites_exact or length > MAX_NAME:
            return OUTCOME_MISS
        if self.table is None or self.table.header.unlisted[route.view] == UNLISTED_ALL:
            return OUTCOME_MISS
        memset(name, 0, NAME_BUFFER)
        memcpy(name, query.name, kept)
        memcpy(name + kept, route.becomes, route.becomes_length)
        if route.detours != NULL and is_detour(route.detours, name, <unsigned int> length):
            return OUTCOME_MISS
        blob = self.table.find(
            name, <uint16_t> length, self.table.hash_name(name, <uint16_t> length, route.view), query.qtype, route.view
        )
        if blob == NULL or not _is_addresses(blob, query.qtype):
            return OUTCOME_MISS
        owner = query.name_length
        if route.restores:
            outcome = _positive(self.table, route, blob, packet, query, limit, stream, chance, reply, reply_length)
        else:
            owner = <uint32_t> length
            outcome = _positive_of(route, blob, name, owner, packet, query, limit, stream, chance, reply, reply_length)
        if outcome == OUTCOME_TRUNCATED and wanted > limit:
            reply_length[0] = 0         # it need not be cut, but there is no room for it here
            return OUTCOME_MISS
        if route.meter:
            # Whole and uncompressed: each record has its owner instead of the table's pointer.
            self.see(
                route.meter, <Writer> route.writer, query,
                query.question_end + blob.body_length + blob.answers * (owner - 2),
            )
        return outcome

    cdef Outcome from_cache(
        self, const Route* route, const uint8_t* packet, const Query* query, size_t limit, size_t wanted, bint stream,
        uint64_t chance, uint8_t* reply, size_t* reply_length,
    ) noexcept nogil:
        """Answer what the table does not decide with a reply that was kept."""
        cdef size_t size = query.question_end, room = limit - size - _opt_size(query, stream)
        cdef Taken taken
        cdef bint wants_authentic = query.dnssec_ok or packet[3] & 0x20
        if not take(
            self.cache, &route.cache, query, packet[3] & 0x10 != 0, room, route.rotates, chance, reply + size, &taken
        ) or (taken.is_cut and wanted > limit):
            if taken.is_absent and route.engine:
                self.open = route
            return OUTCOME_MISS
        if route.error_is_miss and taken.rcode != 0 and taken.rcode != RCODE_NXDOMAIN:
            return OUTCOME_MISS
        memcpy(reply, packet, size)
        _finish_header(packet, 0x84 | (0x02 if taken.is_cut else 0), taken.rcode, reply)
        reply[3] |= (0x80 if taken.recursion_available else 0) | (
            0x20 if taken.authentic_data and wants_authentic else 0
        )
        put_u16(reply + 6, taken.answers)
        put_u16(reply + 8, taken.authorities)
        put_u16(reply + 10, taken.additionals + query.has_edns)
        size += taken.length
        reply_length[0] = size + _put_opt(query, 0, stream, reply + size)
        self.numbers[route.cache_requests] += 1
        self.numbers[route.cache_hits[taken.log]] += 1
        if route.meter:
            self.see(route.meter, WRITER_CACHE, query, query.question_end + taken.whole_size)
        return OUTCOME_CACHED


cdef _set_rewrite(Route* route, given):
    cdef bytes becomes = given.becomes
    if not 0 < len(becomes) <= MAX_NAME:
        raise ValueError(f"a rewritten name of {len(becomes)} octets")
    route.rewrites_exact = given.is_exact
    route.restores = given.restores
    route.becomes_length = <uint16_t> len(becomes)
    memcpy(route.becomes, PyBytes_AS_STRING(becomes), len(becomes))


cdef _set_policy(Route* route, given, bint has_counters):
    route.cache.store = given.store
    route.cache.keeps_ttl = given.keeps_ttl
    route.cache.serves_stale = given.serves_stale
    route.cache.prefetch_uses = min(<uint64_t> given.prefetch_uses, 0xFFFFFFFF)
    route.cache.prefetch_gap = given.prefetch_gap
    route.cache.prefetch_percent = given.prefetch_percent
    if has_counters:
        route.cache_requests, route.cache_hits[LOG_SUCCESS], route.cache_hits[LOG_DENIAL], route.cache_misses = (
            given.counters
        )


cdef uint32_t _whole_size(
    Table table, const Route* route, const Query* query, Outcome outcome, bint stream, const uint8_t* reply, size_t length
) noexcept nogil:
    """The octets of a reply from the table, uncompressed, whole and without OPT: what metrics call its size.

    Exact where the pointers of the body are its records' owners, which are the question's name: for addresses, TXT,
    SOA, one PTR, and where there is no answer. Elsewhere (SRV, NS, several PTR, behind a CNAME) other names that end in
    pointers count as they are, so the size is somewhat too small.
    """
    cdef int owner = query.name_length - 2      # octets of a name, less those of the pointer to it
    cdef int records
    cdef const BlobHeader* blob
    if outcome == OUTCOME_NODATA or outcome == OUTCOME_NXDOMAIN:
        # The zone's name in SOA's owner, behind "ns.dns" and behind "hostmaster"; the rest has fixed lengths.
        return query.question_end + 3 * route.zone_length + route.soa_length - 6
    if outcome == OUTCOME_TRUNCATED:
        blob = table.find(
            query.name, query.name_length, table.hash_name(query.name, query.name_length, route.view), query.qtype,
            route.view,
        )
        if blob != NULL:                        # it may be gone by now: then what was sent counts
            records = blob.answers + blob.additionals
            return <uint32_t> (query.question_end + <int> blob.body_length + records * owner)
    records = ((reply[6] << 8) | reply[7]) + ((reply[10] << 8) | reply[11]) - query.has_edns
    if query.qtype == TYPE_SOA:
        records += 2                            # names that are the question's, but for what stands before the pointer
    return <uint32_t> (<int> length - <int> _opt_size(query, stream) + records * owner)


cdef bint _find_soa_names(Route* route) noexcept nogil:
    """Note where the pointers of the route's SOA record stand; whether there are as many as there must be."""
    cdef unsigned int at = SOA_RDATA_AT, name
    route.soa_names[0] = 0
    for name in range(1, 3):
        while at < route.soa_length and 0 < route.soa[at] < 0xC0:
            at += 1 + route.soa[at]
        if at >= route.soa_length or route.soa[at] < 0xC0:
            return False
        route.soa_names[name] = <uint8_t> at
        at += 2
    return at + SOA_NUMBERS == route.soa_length


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
    if table.header.unlisted[route.view]:
        return OUTCOME_MISS     # whether the name is missing or just not known yet, the slow path tells
    blob = table.find(query.name, query.name_length, name_hash, 0, route.view)
    if blob == NULL:
        if _may_be_spelled_otherwise(table, route, query):
            return OUTCOME_MISS
        if route.nxdomain_is_miss:
            return OUTCOME_UNKNOWN
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
    if (
        blob.flags & BLOB_LEAVES_ZONE
        or (blob.flags & BLOB_SPELLS_ZONE and query.has_upper_case)
        or (route.additional_is_miss and blob.additionals)
    ):
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
            _put_u32(reply + size + route.soa_names[2] + 2, table.header.serials[route.serial])
        size += blob.body_length
    else:
        size += _copy_cut(blob, body, room, chance, reply + size, &answers, &additionals)
    _finish_header(packet, 0x84 | (0x02 if cut else 0), 0, reply)
    put_u16(reply + 6, answers)
    put_u16(reply + 8, 0)
    put_u16(reply + 10, additionals + query.has_edns)
    reply_length[0] = size + _put_opt(query, 0, stream, reply + size)
    return OUTCOME_TRUNCATED if cut else OUTCOME_ANSWER


cdef bint _is_addresses(const BlobHeader* blob, unsigned int qtype) noexcept nogil:
    """Whether a body is addresses alone, each owned by a pointer to the question's name."""
    cdef const uint8_t* body = blob_body(blob)
    cdef size_t size = A_RECORD if qtype == TYPE_A else AAAA_RECORD
    if blob.flags & (BLOB_ALIAS | BLOB_LEAVES_ZONE | BLOB_SPELLS_ZONE) or blob.additionals or not blob.answers:
        return False
    # Records of one type and owner, which is either the name or the end of a CNAME chain.
    return (
        blob.body_length == blob.answers * size
        and body[0] == 0xC0 and body[1] == HEADER_SIZE and body[2] == 0 and body[3] == qtype
    )


cdef Outcome _positive_of(
    const Route* route, const BlobHeader* blob, const uint8_t* name, size_t name_length, const uint8_t* packet,
    const Query* query, size_t limit, bint stream, uint64_t chance, uint8_t* reply, size_t* reply_length,
) noexcept nogil:
    """Addresses whose owner is not the question's name: each spells it, up to where the question goes on alike."""
    cdef size_t size = query.question_end
    cdef size_t room = limit - size - _opt_size(query, stream)
    cdef const uint8_t* body = blob_body(blob)
    cdef size_t count = blob.answers, rest = blob.body_length / count - 2
    cdef uint8_t owner[MAX_NAME + 2]
    cdef size_t owner_length = _spell_owner(name, name_length, query, owner)
    cdef size_t length = owner_length + rest
    cdef bint cut = count * length > room
    cdef size_t fit = min(count, room / length), start = 0, index, record
    # One record stays where it is; of more, any may be the first.
    if count > 1 and (cut or route.rotates):
        start = ((chance >> 32) * count) >> 32
    memcpy(reply, packet, size)
    for index in range(fit):
        record = start + index - (count if start + index >= count else 0)
        memcpy(reply + size, owner, owner_length)
        memcpy(reply + size + owner_length, body + record * (rest + 2) + 2, rest)
        size += length
    _finish_header(packet, 0x84 | (0x02 if cut else 0), 0, reply)
    put_u16(reply + 6, <uint16_t> fit)
    put_u16(reply + 8, 0)
    put_u16(reply + 10, query.has_edns)
    reply_length[0] = size + _put_opt(query, 0, stream, reply + size)
    return OUTCOME_TRUNCATED if cut else OUTCOME_ANSWER


cdef size_t _spell_owner(const uint8_t* name, size_t length, const Query* query, uint8_t* out) noexcept nogil:
    """A name with the longest end it has in common with the question's replaced by a pointer to that."""
    cdef size_t at = 0, tail, place
    while name[at]:
        tail = length - at
        if tail <= query.name_length:
            place = query.name_length - tail
            if query.boundaries[place >> 6] >> (place & 63) & 1 and memcmp(query.name + place, name + at, tail) == 0:
                memcpy(out, name, at)
                put_u16(out + at, <unsigned int> (0xC000 | (HEADER_SIZE + place)))
                return at + 2
        at += 1 + name[at]
    memcpy(out, name, length)
    return length


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
    memcpy(soa, route.soa, route.soa_length)
    put_u16(soa, zone)
    put_u16(soa + route.soa_names[1], zone)
    put_u16(soa + route.soa_names[2], zone)
    _put_u32(soa + route.soa_names[2] + 2, table.header.serials[route.serial])
    _finish_header(packet, 0x84, rcode, reply)
    put_u16(reply + 6, 0)
    put_u16(reply + 8, 1)
    put_u16(reply + 10, query.has_edns)
    size += route.soa_length
    return size + _put_opt(query, 0, stream, reply + size)


cdef size_t _without_body(
    const uint8_t* packet, const Query* query, unsigned int rcode, unsigned int extended_rcode, bint stream, uint8_t* reply
) noexcept nogil:
    """An error this server makes itself: header, question, OPT; not authoritative."""
    cdef size_t size = query.question_end
    memcpy(reply, packet, size)
    _finish_header(packet, 0x80, rcode, reply)
    put_u16(reply + 6, 0)
    put_u16(reply + 8, 0)
    put_u16(reply + 10, query.has_edns)
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
    put_u16(reply + 4, 1)


cdef inline size_t _opt_size(const Query* query, bint stream) noexcept nogil:
    if not query.has_edns:
        return 0
    return OPT_SIZE + (KEEPALIVE_SIZE if stream and query.keepalive else 0)


cdef size_t _put_opt(const Query* query, unsigned int extended_rcode, bint stream, uint8_t* out) noexcept nogil:
    if not query.has_edns:
        return 0
    memset(out, 0, OPT_SIZE)
    out[2] = 41
    put_u16(out + 3, OWN_UDP_PAYLOAD)
    out[5] = <uint8_t> extended_rcode
    out[7] = <uint8_t> (query.dnssec_ok << 7)
    if not (stream and query.keepalive):
        return OPT_SIZE
    out[10] = KEEPALIVE_SIZE
    put_u16(out + 11, 11)
    put_u16(out + 13, 2)
    put_u16(out + 15, KEEPALIVE_UNITS)
    return OPT_SIZE + KEEPALIVE_SIZE


cdef inline void _put_u32(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t> (value >> 24)
    at[1] = <uint8_t> (value >> 16)
    at[2] = <uint8_t> (value >> 8)
    at[3] = <uint8_t> value
