# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""From nodes to blobs: of nearly all nodes, which are alike and half a million, without a response made of them.

Those that come in a batch are written without a node as well. Their octets are those that table/render.py gives.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from kdns.hotpath.table cimport (
    BLOB_ALIAS, BLOB_HAS_PORTS, BLOB_SPELLS_ZONE, BlobHeader, pad_name, slot_key,
)
from kdns.hotpath.table_writer cimport TableWriter

from kdns.dns.rrset import EndpointBatch, Node, PointerBatch
from kdns.hotpath.table_writer import TableFull

cdef enum:
    RECORD_HEAD = 12                # octets of a record before its data, the owner being a pointer
    SRV_HEAD = 6                    # octets of SRV data before the target (RFC 2782)
    MAX_NAME = 255                  # octets (RFC 1035, 2.3.4)
    LARGEST_DATA = SRV_HEAD + MAX_NAME  # octets of a record's data that are written here
    MAX_HEADS = 8                   # SRV records of a common answer; fewer than those that get offsets
    LARGEST_ADDRESS = 16            # octets
    LARGEST_BODY = MAX_HEADS * (RECORD_HEAD + LARGEST_DATA) + RECORD_HEAD + LARGEST_ADDRESS     # octets
    GROUP = 16                      # nodes of a batch whose slots are fetched from memory at the same time
    MOST_KEYS = 3                   # of a node: that it exists, and two types
    MOST_ANSWERS = 3                # of a single node
    QUESTION_NAME = 12              # where a message's question begins (RFC 1035, 4.1.1)
    TYPE_A = 1
    TYPE_PTR = 12
    TYPE_AAAA = 28
    TYPE_SRV = 33

cdef enum Outcome:
    UNCHANGED
    CHANGED
    NOT_COMMON                      # nothing was done

cdef struct Named:
    # A node of a batch, its slots on their way from memory.
    uint64_t name_hash
    uint64_t[MOST_KEYS] keys
    unsigned int size               # octets of the name
    unsigned int position           # in the batch
    uint8_t[272] padded


def load(TableWriter table not None, unsigned int view, nodes, apexes not None):
    """Put nodes in, as `replace_node` would, as long as they are there and of the common kinds.

    The first node or batch that is not, or for which there is no room, or that is one of `apexes`, is handed back; a
    part of it may be in the table then. So is a batch of which a node is there already. None: that was the last.
    `nodes` is an iterator; no node of a batch is an apex.
    """
    cdef bint is_in
    for node in nodes:
        try:
            if type(node) is EndpointBatch:
                is_in = _load_endpoints(table, <tuple> node, <uint8_t> view)
            elif type(node) is PointerBatch:
                is_in = _load_pointers(table, <tuple> node, <uint8_t> view)
            else:
                is_in = node[1] is not None and _replace(table, node, <uint8_t> view, apexes) != NOT_COMMON
        except TableFull:
            return node
        if not is_in:
            return node
    table._touch()
    return None


# Batches

cdef bint _load_endpoints(TableWriter table, tuple batch, uint8_t view) except -1:
    """Put the nodes of an EndpointBatch in; False where one is there already, or there are too many SRV records."""
    cdef list labels = list(batch[0]), addresses = list(batch[2])
    cdef bytes suffix = <bytes> batch[1], address
    cdef uint32_t ttl = batch[3]
    cdef tuple heads = <tuple> batch[4]
    cdef Named[GROUP] group
    cdef Named* one
    cdef uint64_t reference
    cdef Py_ssize_t at = 0, count = len(labels)
    cdef int kept, number, types = 2 if heads else 1
    cdef unsigned int rtype
    if len(addresses) != count or len(heads) > MAX_HEADS:
        return False
    for head in heads:
        if PyBytes_GET_SIZE(<bytes> head) != SRV_HEAD:
            return False
    while at < count:
        kept = 0
        while at < count and kept < GROUP:
            rtype = TYPE_A if PyBytes_GET_SIZE(<bytes> addresses[at]) == 4 else TYPE_AAAA
            kept += _name(table, group + kept, <bytes> labels[at], suffix, at, view, rtype, types)
            at += 1
        for number in range(kept):
            one = group + number
            address = <bytes> addresses[one.position]
            if not _is_new(table, one, view):
                return False
            reference = _put_address(table, one, view, ttl, address)
            if heads:
                _put_services(table, one, view, ttl, heads, address)
            table._insert(one.keys[0], reference)
    return True


cdef bint _load_pointers(TableWriter table, tuple batch, uint8_t view) except -1:
    """Put the nodes of a PointerBatch in; False where one is there already."""
    cdef list owners = list(batch[0]), labels = list(batch[1])
    cdef bytes suffix = <bytes> batch[2], label
    cdef uint32_t ttl = batch[3]
    cdef Named[GROUP] group
    cdef Named* one
    cdef BlobHeader header
    cdef uint8_t[LARGEST_BODY] body
    cdef uint64_t reference
    cdef Py_ssize_t at = 0, count = len(owners)
    cdef unsigned int size, label_size
    cdef int kept, number
    if len(labels) != count:
        return False
    while at < count:
        kept = 0
        while at < count and kept < GROUP:
            label_size = PyBytes_GET_SIZE(<bytes> labels[at])
            if label_size and label_size + PyBytes_GET_SIZE(suffix) <= MAX_NAME:
                kept += _name(table, group + kept, <bytes> owners[at], b"", at, view, TYPE_PTR, 1)
            at += 1
        for number in range(kept):
            one = group + number
            label = <bytes> labels[one.position]
            if not _is_new(table, one, view):
                return False
            label_size = PyBytes_GET_SIZE(label)
            size = label_size + PyBytes_GET_SIZE(suffix)
            _begin(&header, one.size, view, TYPE_PTR)
            header.body_length = RECORD_HEAD + size
            _put_head(body, QUESTION_NAME, TYPE_PTR, ttl, size)
            memcpy(body + RECORD_HEAD, PyBytes_AS_STRING(label), label_size)
            memcpy(body + RECORD_HEAD + label_size, PyBytes_AS_STRING(suffix), size - label_size)
            reference = table._place(&header, one.padded, body, NULL)
            table._insert(one.keys[1], reference)
            table._insert(one.keys[0], reference)
    return True


cdef int _name(
    TableWriter table, Named* one, bytes label, bytes suffix, Py_ssize_t position, uint8_t view, unsigned int rtype,
    int types,
) except -1:
    """Note what a node is called, and have its slots fetched; 0 where it has no name that fits."""
    cdef size_t label_size = PyBytes_GET_SIZE(label), suffix_size = PyBytes_GET_SIZE(suffix)
    cdef int at
    if not 0 < label_size <= MAX_NAME - suffix_size:
        return 0
    one.position = <unsigned int> position
    one.size = <unsigned int> (label_size + suffix_size)
    memset(one.padded + (one.size & ~<size_t> 7), 0, 16)
    memcpy(one.padded, PyBytes_AS_STRING(label), label_size)
    memcpy(one.padded + label_size, PyBytes_AS_STRING(suffix), suffix_size)
    one.name_hash = table.hash_name(one.padded, one.size, view)
    one.keys[0] = slot_key(one.name_hash, 0)
    one.keys[1] = slot_key(one.name_hash, <unsigned short> rtype)
    one.keys[2] = slot_key(one.name_hash, TYPE_SRV)
    for at in range(types + 1):
        table._fetch(one.keys[at])
    return 1


cdef bint _is_new(TableWriter table, Named* one, uint8_t view) noexcept:
    cdef const BlobHeader* old = NULL
    return table.find_slot(one.padded, one.size, one.name_hash, 0, view, &old) == NULL


cdef uint64_t _put_address(TableWriter table, Named* one, uint8_t view, uint32_t ttl, bytes address) except 0:
    """Put a node's address in; the reference of its blob."""
    cdef BlobHeader header
    cdef uint8_t[RECORD_HEAD + LARGEST_DATA] body
    cdef unsigned int rtype = TYPE_A if PyBytes_GET_SIZE(address) == 4 else TYPE_AAAA
    _begin(&header, one.size, view, rtype)
    header.body_length = _put_record(body, QUESTION_NAME, rtype, ttl, address)
    cdef uint64_t reference = table._place(&header, one.padded, body, NULL)
    table._insert(one.keys[1], reference)
    return reference


cdef int _put_services(
    TableWriter table, Named* one, uint8_t view, uint32_t ttl, tuple heads, bytes address
) except -1:
    """Put in the SRV records that lead to a node's own name."""
    cdef BlobHeader header
    cdef uint8_t[LARGEST_BODY] body
    cdef uint8_t* end = body
    _begin(&header, one.size, view, TYPE_SRV)
    for head in heads:
        _put_head(end, QUESTION_NAME, TYPE_SRV, ttl, SRV_HEAD + one.size)
        memcpy(end + RECORD_HEAD, PyBytes_AS_STRING(<bytes> head), SRV_HEAD)
        memcpy(end + RECORD_HEAD + SRV_HEAD, one.padded, one.size)
        end += RECORD_HEAD + SRV_HEAD + one.size
    end += _put_record(end, QUESTION_NAME, TYPE_A if PyBytes_GET_SIZE(address) == 4 else TYPE_AAAA, ttl, address)
    header.flags = BLOB_SPELLS_ZONE
    header.answers = <unsigned short> len(heads)
    header.additionals = 1
    header.body_length = <uint32_t> (end - body)
    table._insert(one.keys[2], table._place(&header, one.padded, body, NULL))
    return 0


# Single nodes

def replace(TableWriter table not None, unsigned int view, node, apexes not None):
    """Make a name answer what its node says, as `replace_node` would, if it is of the common kinds; whether it changed.

    None: it is not, or it is one of `apexes`, and nothing was done. Raises TableFull where only part of it was.
    """
    cdef int outcome = _replace(table, node, <uint8_t> view, apexes)
    return None if outcome == NOT_COMMON else outcome == CHANGED


cdef int _replace(TableWriter table, object found, uint8_t view, object apexes) except? -1:
    """The same, as one of the outcomes."""
    cdef uint8_t padded[272]
    cdef BlobHeader[MOST_ANSWERS] headers
    cdef uint8_t[MOST_ANSWERS][LARGEST_BODY] bodies
    cdef unsigned int size, node_flags
    cdef uint64_t name_hash, reference, first = 0, present = 0
    cdef bint changed = False
    cdef int at, count
    if type(found) is not Node or (<tuple> found)[0] in apexes:
        return NOT_COMMON
    cdef tuple node = <tuple> found
    answers, alias = node[1], node[2]
    count = len(<tuple> answers) if answers is not None else 0
    if count > (MOST_ANSWERS if alias is None else 0):
        return NOT_COMMON
    size = pad_name(<bytes> node[0], padded)
    node_flags = BLOB_HAS_PORTS if node[3] and alias is None else 0
    for at in range(count):
        _begin(&headers[at], size, view, 0)
        if not _render_common(padded, size, <tuple> (<tuple> answers)[at], bodies[at], &headers[at]):
            return NOT_COMMON
        headers[at].flags |= node_flags
    name_hash = table.hash_name(padded, size, view)
    if answers is None:
        return CHANGED if table._remove(padded, size, name_hash, view) else UNCHANGED
    for at in range(count):
        reference = table._put_blob(&headers[at], padded, name_hash, bodies[at], NULL, &changed)
        present |= 1ULL << headers[at].qtype
        if first == 0:
            first = reference
    if alias is not None:
        _begin(&headers[0], size, view, 0)
        headers[0].answers = 0
        headers[0].flags = BLOB_ALIAS
        headers[0].body_length = <uint32_t> PyBytes_GET_SIZE(<bytes> alias)
        first = table._put_alias(&headers[0], padded, name_hash, <const uint8_t*> PyBytes_AS_STRING(<bytes> alias))
    if table._settle(padded, size, name_hash, view, node_flags, first, present, changed):
        return CHANGED
    return UNCHANGED


cdef bint _render_common(
    const uint8_t* owner, unsigned int owner_size, tuple answer, uint8_t* body, BlobHeader* header
):
    """Write the body of an answer as table/render.py does, if it is a common one, and what its `header` says of it.

    Common are one address, one PTR record, and a few SRV records of one target with its one address, where the target
    is the owner or ends it.
    """
    cdef unsigned int qtype = answer[0]
    cdef tuple rdatas = <tuple> answer[2], additional = <tuple> answer[4]
    cdef Py_ssize_t count = len(rdatas)
    if len(<tuple> answer[3]) or answer[5] or not 0 < count <= MAX_HEADS:
        return False
    header.qtype = qtype
    header.answers = <unsigned short> count
    if qtype == TYPE_SRV:
        return len(additional) == 1 and _render_services(owner, owner_size, answer, body, header)
    if (qtype != TYPE_A and qtype != TYPE_AAAA and qtype != TYPE_PTR) or count != 1 or len(additional):
        return False
    if PyBytes_GET_SIZE(<bytes> rdatas[0]) > LARGEST_DATA:
        return False
    header.body_length = _put_record(body, QUESTION_NAME, qtype, answer[1], <bytes> rdatas[0])
    return True


cdef bint _render_services(
    const uint8_t* owner, unsigned int owner_size, tuple answer, uint8_t* body, BlobHeader* header
):
    """Write SRV records and their target's address, if they are common ones."""
    cdef tuple rdatas = <tuple> answer[2], record = <tuple> (<tuple> answer[4])[0]
    cdef bytes rdata = <bytes> rdatas[0], target = <bytes> record[0], address = <bytes> record[3]
    cdef unsigned int target_size = PyBytes_GET_SIZE(target)
    cdef uint8_t* end = body
    if (
        target_size > owner_size
        or memcmp(PyBytes_AS_STRING(target), owner + owner_size - target_size, target_size) != 0
        or PyBytes_GET_SIZE(address) > LARGEST_ADDRESS
    ):
        return False
    for rdata in rdatas:
        if (
            PyBytes_GET_SIZE(rdata) != SRV_HEAD + target_size
            or memcmp(PyBytes_AS_STRING(rdata) + SRV_HEAD, PyBytes_AS_STRING(target), target_size) != 0
        ):
            return False
        end += _put_record(end, QUESTION_NAME, TYPE_SRV, answer[1], rdata)
    end += _put_record(end, QUESTION_NAME + owner_size - target_size, record[1], record[2], address)
    header.flags = BLOB_SPELLS_ZONE
    header.additionals = 1
    header.body_length = <uint32_t> (end - body)
    return True


# Records

cdef void _begin(BlobHeader* header, unsigned int name_size, uint8_t view, unsigned int rtype) noexcept:
    """The header of a blob with one answer, its flags and its body still to come."""
    memset(header, 0, sizeof(BlobHeader))
    header.qtype = <unsigned short> rtype
    header.name_length = <uint8_t> name_size
    header.view = view
    header.answers = 1


cdef unsigned int _put_record(uint8_t* out, unsigned int owner_at, unsigned int rtype, uint32_t ttl, bytes rdata):
    """Write a record of class IN, its owner a pointer into the question; its octets."""
    cdef unsigned int size = PyBytes_GET_SIZE(rdata)
    _put_head(out, owner_at, rtype, ttl, size)
    memcpy(out + RECORD_HEAD, PyBytes_AS_STRING(rdata), size)
    return RECORD_HEAD + size


cdef void _put_head(uint8_t* out, unsigned int owner_at, unsigned int rtype, uint32_t ttl, unsigned int size) noexcept:
    """Write a record up to its data."""
    out[0] = 0xC0 | (owner_at >> 8)
    out[1] = owner_at & 0xFF
    out[2] = (rtype >> 8) & 0xFF
    out[3] = rtype & 0xFF
    out[4] = 0
    out[5] = 1
    out[6] = ttl >> 24
    out[7] = (ttl >> 16) & 0xFF
    out[8] = (ttl >> 8) & 0xFF
    out[9] = ttl & 0xFF
    out[10] = (size >> 8) & 0xFF
    out[11] = size & 0xFF
