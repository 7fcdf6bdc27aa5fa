# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Offsets into the mapping are this module's own, checked against the header when it was mapped.
"""The response table's one writer: where blobs and slots go, and when their memory is used again.

table.pyx tells what readers may rely on. What is common is written by
nodes.pyx, the rest by `replace_node`.
"""

import os
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport close

from kdns.hotpath.atomics cimport CLOCK_MONOTONIC, CLOCK_REALTIME, kdns_clock_ns, kdns_full_fence, kdns_load, kdns_store
from kdns.hotpath.table cimport (
    BLOB_ALIAS, BLOB_HAS_PORTS, BLOB_INDEXED, BLOB_NAMED_INSIDE, BLOB_SPELLS_ZONE, EPOCH_STRIDE, HEADER_PAGE, LAYOUT,
    MAX_DATA, MAX_VIEWS, SLOTS_PER_BUCKET, TABLE_MAGIC, TARGET_AT, UNLISTED_ALL, BlobHeader, Table, TableHeader,
    blob_body, blob_body_at, blob_name, blob_record_offsets, first_bucket, is_existence_slot, pad, pad_name,
    second_bucket, slot_key, tag_of,
)

from kdns.errors import TableError

cdef enum:
    PAGE = 65536                # octets; a small blob never crosses one (a BPF map value is at most this)
    FIRST_BLOB = 8              # reference 0 means an empty slot
    LARGE_UNIT = 4096           # octets; large rooms are multiples, so that one fits a blob that grew a little
    LARGEST_SMALL_BLOB = 32768  # octets; larger ones would waste the ends of pages
    TYPE_SRV = 33

cdef extern from *:
    void __builtin_prefetch(const void* address) noexcept nogil

MAX_LOAD = 0.6  # slots in use over slots; the emptier of two buckets of eight is as good as never full below it

# Types a node can have data for; a node that is replaced loses those it has no answer for.
cdef uint16_t[8] NODE_TYPES = [1, 2, 5, 6, 12, 16, 28, 33]
cdef frozenset REPLACEABLE = frozenset((0, 1, 2, 5, 6, 12, 16, 28, 33))     # 0: an alias


cdef class TableWriter(Table):
    """The writer of a generation, of which there is one.

    Its methods raise TableFull where the next generation is due; the table stays right all the same.
    """

    def __cinit__(self, int fd, bint writable=False):
        if not writable:
            raise ValueError("a table mapped for reading only, expected one to write")
        cdef TableHeader* header = self.header
        if not FIRST_BLOB <= header.small_end <= header.large_start <= header.data_size:
            raise TableError("table whose data reaches beyond its end")
        if (header.small_end | header.large_start) & 7:
            raise TableError("table whose blobs are not aligned")
        self.free_rooms = {}
        self.retiring = []
        self.limbo = deque()

    @classmethod
    def create(cls, uint64_t generation, size_t slots, size_t data_bytes, bytes seed not None, epochs=None):
        """A new, empty generation for `slots` keys and `data_bytes` of blobs, in memory without a name."""
        if len(seed) != 16:
            raise ValueError(f"seed of {len(seed)} octets, expected 16")
        cdef uint64_t buckets = max(64, <uint64_t> (slots / (SLOTS_PER_BUCKET * MAX_LOAD)) + 1)
        # The pages are not there before they are written, so room costs nothing.
        cdef uint64_t data_size = min((data_bytes + 2 * PAGE) & ~(<size_t> PAGE - 1), MAX_DATA)
        cdef TableHeader header
        memset(&header, 0, sizeof(header))
        header.magic = TABLE_MAGIC
        header.layout = LAYOUT
        header.generation = generation
        memcpy(header.seed, PyBytes_AS_STRING(seed), 16)
        header.buckets = buckets
        header.data_size = data_size
        header.small_end = FIRST_BLOB
        header.large_start = data_size
        memset(header.unlisted, UNLISTED_ALL, sizeof(header.unlisted))
        fd = os.memfd_create("kdns-table")
        try:
            os.ftruncate(fd, HEADER_PAGE + 64 * buckets + data_size)
            os.pwrite(fd, PyBytes_FromStringAndSize(<char*> &header, sizeof(header)), 0)
            table = cls(fd, True)
            if epochs is not None:
                (<TableWriter> table)._watch(epochs)
            return table
        finally:
            os.close(fd)

    def _watch(self, epochs not None):
        cdef const unsigned char[::1] octets = epochs
        self.epochs_owner = octets
        self.readers = octets.shape[0] // (8 * EPOCH_STRIDE)
        self.epochs = <const uint64_t*> &octets[0] if self.readers else NULL

    def seal(self):
        """End a change: what it retired may be reused once every reader that is in a batch now has left it."""
        cdef size_t reader
        cdef uint64_t epoch
        if not self.retiring:
            return
        # The slots were stored before; who reads the old ones has announced itself before it did.
        kdns_full_fence()
        sealed = bytearray(8 * self.readers)
        cdef unsigned char[::1] octets = sealed
        for reader in range(self.readers):
            epoch = kdns_load(self.epochs + reader * EPOCH_STRIDE)
            memcpy(&octets[8 * reader], &epoch, 8)
        self.limbo.append((sealed, self.retiring))
        self.retiring = []

    def reclaim(self):
        """Make free what no reader can hold any more."""
        cdef unsigned char[::1] octets
        while self.limbo:
            octets = self.limbo[0][0]
            if not self._has_passed(<const uint64_t*> &octets[0]):
                return
            for at, size in self.limbo.popleft()[1]:
                self.free_rooms.setdefault(size, []).append(at)

    cdef bint _has_passed(self, const uint64_t* sealed) noexcept nogil:
        cdef size_t reader
        for reader in range(self.readers):
            if sealed[reader] & 1 and kdns_load(self.epochs + reader * EPOCH_STRIDE) == sealed[reader]:
                return False
        return True

    def replace_node(self, bytes name not None, unsigned int view, unsigned int node_flags, responses):
        """Make the node `name` answer exactly `responses`, or remove it where `responses` is None.

        A response is (qtype, flags, record_length, answers, additionals, rotate_from, body, record_offsets). Returns
        whether anything changed. Each type changes in one store; the name appears after its data and goes before it.
        """
        cdef uint8_t padded[272]
        cdef unsigned int size = pad_name(name, padded)
        cdef uint64_t name_hash = self.hash_name(padded, size, <uint8_t> view)
        cdef uint64_t present = 0
        cdef uint64_t reference, first = 0
        cdef BlobHeader header
        cdef const uint8_t* body
        cdef const uint8_t* offsets
        cdef bint changed = False
        if responses is None:
            return self._remove(padded, size, name_hash, <uint8_t> view)
        for response in responses:
            if response[0] not in REPLACEABLE:
                raise ValueError(f"type {response[0]}, expected one of {sorted(REPLACEABLE)}")
        for response in responses:
            _describe(&header, size, <uint8_t> view, node_flags, <tuple> response, &body, &offsets)
            if header.qtype == 0:
                first = self._put_alias(&header, padded, name_hash, body)
                continue
            reference = self._put_blob(&header, padded, name_hash, body, offsets, &changed)
            present |= 1ULL << header.qtype
            if first == 0:
                first = reference
        return self._settle(padded, size, name_hash, <uint8_t> view, node_flags, first, present, changed)

    cdef bint _remove(self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view) except -1:
        """Remove a node; whether it was there."""
        cdef const BlobHeader* old = NULL
        cdef uint64_t* existence = self.find_slot(name, size, name_hash, 0, view, &old)
        if existence == NULL:
            return False
        self._clear(existence)
        if old.qtype == 0:
            self._retire(old)
        self._delete_types(name, size, name_hash, view, 0)
        self._touch()
        return True

    cdef bint _settle(
        self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view, unsigned int node_flags,
        uint64_t first, uint64_t present, bint changed,
    ) except -1:
        """Say that a name exists, by its blob `first` if that is not 0, and with no more types than those `present`.

        Whether this, or what came before it, `changed` the node.
        """
        cdef const BlobHeader* old = NULL
        cdef uint64_t* existence = self.find_slot(name, size, name_hash, 0, view, &old)
        if first == 0 and (existence == NULL or old.qtype != 0 or old.flags != node_flags):
            first = self._write(name, size, view, node_flags, (0, 0, 0, 0, 0, 0, b"", None))
        if existence == NULL:
            self._insert(slot_key(name_hash, 0), first)
            changed = True
        else:
            if first != 0 and (existence[0] & 0xFFFFFFFFU) != first:
                kdns_store(existence, (existence[0] & ~0xFFFFFFFFULL) | first)
                if old.qtype == 0:
                    self._retire(old)
                changed = True
            if self._delete_types(name, size, name_hash, view, present):
                changed = True
        if changed:
            self._touch()
        return changed

    def set_synced(self, unsigned int view, bint synced):
        """Say that all objects of `view` have been listed, or none."""
        self.set_unlisted(view, 0 if synced else UNLISTED_ALL)

    def set_unlisted(self, unsigned int view, uint8_t kinds):
        """Say which kinds of objects `view` still lacks; not to be changed once the generation is read."""
        if view >= MAX_VIEWS:
            raise ValueError(f"view {view}, expected less than {MAX_VIEWS}")
        self.header.unlisted[view] = kinds

    def set_serial(self, unsigned int index, uint32_t serial):
        """Set the SOA serial number `index`: 2 * view, and one more for multicluster zones."""
        if index >= 2 * MAX_VIEWS:
            raise ValueError(f"serial {index}, expected less than {2 * MAX_VIEWS}")
        self.header.serials[index] = serial

    def beat(self):
        """Note that the writer is alive."""
        self.header.heartbeat_ns = kdns_clock_ns(CLOCK_MONOTONIC)

    def copy_live(self, TableWriter target not None, without=()):
        """Put every blob that is in use here into `target`, a new generation, and the header's state with them.

        The views in `without` are left out: there they are as if nothing had been listed yet.
        """
        cdef uint64_t at, value
        cdef const BlobHeader* blob
        cdef const BlobHeader* copied = NULL
        cdef const uint64_t* slot
        cdef uint64_t name_hash, reference
        cdef uint8_t padded[272]
        cdef uint8_t left_out[MAX_VIEWS]
        cdef unsigned int view
        memset(left_out, 0, sizeof(left_out))
        for number in without:
            left_out[<unsigned int> number % MAX_VIEWS] = 1
        for view in range(MAX_VIEWS):
            if not left_out[view]:
                target.header.unlisted[view] = self.header.unlisted[view]
                memcpy(target.header.serials + 2 * view, self.header.serials + 2 * view, 2 * sizeof(uint32_t))
        for at in range(SLOTS_PER_BUCKET * self.header.buckets):
            value = self.index[at]
            if value == 0:
                continue
            blob = <const BlobHeader*> (self.data + ((value & 0xFFFFFFFFU) << 3))
            if not left_out[blob.view % MAX_VIEWS] and (blob.qtype == 0 or not is_existence_slot(value)):
                pad(blob_name(blob), blob.name_length, padded)
                name_hash = target.hash_name(padded, blob.name_length, blob.view)
                reference = target._copy_blob(blob)
                target._insert(slot_key(name_hash, blob.qtype), reference)
        # The slots that say «exists» share a blob with a type; that blob's copy is found by its name.
        for at in range(SLOTS_PER_BUCKET * self.header.buckets):
            value = self.index[at]
            if value == 0:
                continue
            blob = <const BlobHeader*> (self.data + ((value & 0xFFFFFFFFU) << 3))
            if not left_out[blob.view % MAX_VIEWS] and blob.qtype != 0 and is_existence_slot(value):
                pad(blob_name(blob), blob.name_length, padded)
                name_hash = target.hash_name(padded, blob.name_length, blob.view)
                slot = target.find_slot(padded, blob.name_length, name_hash, blob.qtype, blob.view, &copied)
                if slot != NULL:        # a writer that was killed may leave anything but a wrong answer
                    target._insert(slot_key(name_hash, 0), slot[0] & 0xFFFFFFFFU)
        target._touch()

    cdef uint64_t _put_alias(
        self, BlobHeader* header, const uint8_t* name, uint64_t name_hash, const uint8_t* body
    ) except 0:
        """A blob for a name that stands for another, which it may have already; its reference."""
        cdef const BlobHeader* old = NULL
        cdef uint64_t* existence = self.find_slot(name, header.name_length, name_hash, 0, header.view, &old)
        if existence != NULL and old.qtype == 0 and _is_same(old, header, body):
            return existence[0] & 0xFFFFFFFFU
        return self._place(header, name, body, NULL)

    cdef uint64_t _put_blob(
        self, BlobHeader* header, const uint8_t* name, uint64_t name_hash, const uint8_t* body, const uint8_t* offsets,
        bint* changed,
    ) except 0:
        """Publish a blob; its reference, which is the old one's where nothing changed."""
        cdef const BlobHeader* old = NULL
        cdef uint64_t* slot = self.find_slot(name, header.name_length, name_hash, header.qtype, header.view, &old)
        cdef uint64_t reference
        if slot != NULL and _is_same(old, header, body):
            return slot[0] & 0xFFFFFFFFU
        reference = self._place(header, name, body, offsets)
        if slot != NULL:
            kdns_store(slot, (slot[0] & ~0xFFFFFFFFULL) | reference)
            self._retire(old)
        else:
            self._insert(slot_key(name_hash, header.qtype), reference)
        changed[0] = True
        return reference

    cdef uint64_t _write(
        self, const uint8_t* name, unsigned int size, uint8_t view, unsigned int node_flags, tuple response
    ) except 0:
        """Put a blob where no reader looks yet; its reference."""
        cdef BlobHeader header
        cdef const uint8_t* body
        cdef const uint8_t* offsets
        _describe(&header, size, view, node_flags, response, &body, &offsets)
        return self._place(&header, name, body, offsets)

    cdef uint64_t _place(
        self, BlobHeader* header, const uint8_t* name, const uint8_t* body, const uint8_t* offsets
    ) except 0:
        """Put a blob where no reader looks yet; its reference."""
        if (
            header.qtype == TYPE_SRV
            and header.body_length >= TARGET_AT + header.name_length
            and memcmp(body + TARGET_AT, name, header.name_length) == 0
        ):
            header.flags |= BLOB_NAMED_INSIDE
        cdef uint64_t at = self._allocate(_room_size(header))
        cdef BlobHeader* blob = <BlobHeader*> (self.data + at)
        blob[0] = header[0]
        if not header.flags & BLOB_NAMED_INSIDE:
            memcpy(<void*> blob_name(blob), name, header.name_length)
        memcpy(<void*> blob_body(blob), body, header.body_length)
        if offsets != NULL:
            memcpy(<void*> blob_record_offsets(blob), offsets, 4 * header.answers)
        self.header.blobs += 1
        return at >> 3

    cdef uint64_t _copy_blob(self, const BlobHeader* source) except 0:
        cdef uint64_t at = self._allocate(_room_size(source))
        memcpy(self.data + at, source, _blob_size(source))
        self.header.blobs += 1
        return at >> 3

    cdef uint64_t _allocate(self, uint64_t size) except 0:
        """The offset of `size` unused octets."""
        cdef TableHeader* header = self.header
        cdef uint64_t at = header.small_end
        rooms = self.free_rooms.get(size)
        if rooms:
            header.retired -= size
            return rooms.pop()
        if size > LARGEST_SMALL_BLOB:
            if header.large_start - at < size:
                raise TableFull(f"no room for {size} octets in generation {header.generation}")
            header.large_start -= size
            return header.large_start
        if (at & (PAGE - 1)) + size > PAGE:
            at = (at + PAGE - 1) & ~(<uint64_t> PAGE - 1)
        if at + size > header.large_start:
            raise TableFull(f"no room for {size} octets in generation {header.generation}")
        header.small_end = at + size
        return at

    cdef int _insert(self, uint64_t key, uint64_t reference) except -1:
        """Publish a new key in the emptier of its buckets."""
        cdef uint64_t tag = tag_of(key)
        cdef uint64_t* one = self.index + SLOTS_PER_BUCKET * first_bucket(key, self.header.buckets)
        cdef uint64_t* other = self.index + SLOTS_PER_BUCKET * second_bucket(tag, self.header.buckets)
        cdef uint64_t* free_one = NULL
        cdef uint64_t* free_other = NULL
        cdef int used_one = 0, used_other = 0, at
        for at in range(SLOTS_PER_BUCKET - 1, -1, -1):
            if one[at]:
                used_one += 1
            else:
                free_one = one + at
            if other[at]:
                used_other += 1
            else:
                free_other = other + at
        if used_other < used_one:
            free_one = free_other
        if free_one == NULL:
            raise TableFull(f"two full buckets in generation {self.header.generation}")
        kdns_store(free_one, tag << 32 | reference)
        self.header.slots += 1
        return 0

    cdef void _fetch(self, uint64_t key) noexcept:
        """Have the buckets of a key brought from memory."""
        cdef uint64_t buckets = self.header.buckets
        __builtin_prefetch(self.index + SLOTS_PER_BUCKET * first_bucket(key, buckets))
        __builtin_prefetch(self.index + SLOTS_PER_BUCKET * second_bucket(tag_of(key), buckets))

    cdef void _clear(self, uint64_t* slot) noexcept:
        kdns_store(slot, 0)
        self.header.slots -= 1

    cdef int _retire(self, const BlobHeader* blob) except -1:
        cdef uint64_t size = _room_size(blob)
        self.header.retired += size
        self.header.blobs -= 1
        if self.epochs != NULL:
            self.retiring.append((<uint64_t> (<const uint8_t*> blob - self.data), size))
        return 0

    cdef int _delete_types(
        self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view, uint64_t present
    ) except -1:
        """Remove the types of a node that are not in the bit set `present`."""
        cdef const BlobHeader* old = NULL
        cdef uint64_t* slot
        cdef bint changed = False
        cdef unsigned int at
        for at in range(8):     # they lie anywhere in memory: let them all come at the same time
            if not present >> NODE_TYPES[at] & 1:
                self._fetch(slot_key(name_hash, NODE_TYPES[at]))
        for at in range(8):
            if present >> NODE_TYPES[at] & 1:
                continue
            slot = self.find_slot(name, size, name_hash, NODE_TYPES[at], view, &old)
            if slot != NULL:
                self._clear(slot)
                self._retire(old)
                changed = True
        return changed

    cdef void _touch(self) noexcept:
        self.header.last_change_ns = kdns_clock_ns(CLOCK_REALTIME)


class TableFull(TableError):
    """A generation has no room left: the next one is due."""


cdef inline uint64_t _blob_size(const BlobHeader* blob) noexcept nogil:
    cdef uint64_t end = blob_body_at(blob) + <uint64_t> blob.body_length
    cdef uint64_t size = sizeof(BlobHeader) + ((end + 7) & ~<uint64_t> 7)
    if blob.flags & BLOB_INDEXED:
        size += (4 * <uint64_t> blob.answers + 7) & ~<uint64_t> 7
    return size


cdef inline uint64_t _room_size(const BlobHeader* blob) noexcept nogil:
    """The octets a blob takes up: large ones have some to spare."""
    cdef uint64_t size = _blob_size(blob)
    return size if size <= LARGEST_SMALL_BLOB else (size + LARGE_UNIT - 1) & ~(<uint64_t> LARGE_UNIT - 1)


cdef int _describe(
    BlobHeader* header, unsigned int size, uint8_t view, unsigned int node_flags, tuple response, const uint8_t** body,
    const uint8_t** offsets,
) except -1:
    """The header of a response's blob, and where its octets are: as long as the response is."""
    header.body_length = <uint32_t> PyBytes_GET_SIZE(<bytes?> response[6])
    header.qtype = response[0]
    header.name_length = <uint8_t> size
    header.view = view
    header.flags = <uint8_t> (response[1] | node_flags | (BLOB_INDEXED if response[7] is not None else 0))
    header.record_length = response[2]
    header.answers = response[3]
    header.additionals = response[4]
    header.rotate_from = response[5]
    body[0] = <const uint8_t*> PyBytes_AS_STRING(<bytes> response[6])
    offsets[0] = NULL
    if response[7] is not None:
        if PyBytes_GET_SIZE(<bytes?> response[7]) != 4 * response[3]:
            raise ValueError(f"{len(response[7])} octets of record offsets for {response[3]} records")
        offsets[0] = <const uint8_t*> PyBytes_AS_STRING(<bytes> response[7])
    return 0


cdef bint _is_same(const BlobHeader* blob, const BlobHeader* other, const uint8_t* body) noexcept:
    """Whether a blob already is what `other` and its body would be."""
    return (
        blob.body_length == other.body_length
        and blob.flags & ~BLOB_NAMED_INSIDE == other.flags
        and blob.record_length == other.record_length
        and blob.answers == other.answers
        and blob.additionals == other.additionals
        and blob.rotate_from == other.rotate_from
        and memcmp(blob_body(blob), body, blob.body_length) == 0
    )
