# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Offsets into the mapping come from slots the writer published and from a header checked when it was mapped.
"""The response table: immutable blobs found through an index of atomic slots, in memory that processes share.

Immutability is the synchronisation. A writer puts a blob into unused space and then stores its slot, once, with
release order; a reader loads a slot with acquire order and reads a blob that never changes again. There are no locks
and no retries. Growing and compacting make the next generation, whose file is handed to the readers, and the kernel
frees the old one with its last mapping.

Memory is reused inside a generation once nobody can be reading it (epoch-based reclamation): each reader has a number
in shared memory that is odd while it may hold a blob, a batch long. What a change retires is sealed together with the
readers' numbers; when each of them was even then, or is another now, its rooms are free. A reader that is killed or
stopped in a batch merely holds that back. (Copying the table instead, whenever enough was retired, cost seven times the
change itself where one endpoint of five thousand goes.)

A key has two candidate buckets and lies in the emptier one, so a look-up touches at most two cache lines of the index
however the names were chosen; nothing is ever moved. (A plain open-addressing table was as fast on average, and could
be made long to search. A cuckoo table moves slots under its readers.)

The hash multiplies by a secret of the generation, so who does not know it cannot make names collide.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close

from kdns.hotpath.atomics cimport kdns_fold, kdns_full_fence, kdns_load, kdns_store

from kdns.errors import TableError


cdef class Table:
    """A mapped generation. Raises TableError where the file is no table, or not one of this layout."""

    def __cinit__(self, int fd, bint writable=False):
        cdef void* mapping
        self.fd = -1        # before anything can fail: __dealloc__ closes what is not negative
        cdef size_t size = os.fstat(fd).st_size
        if size < HEADER_PAGE:
            raise TableError(f"table of {size} octets, expected at least {HEADER_PAGE}")
        mapping = mmap(NULL, size, PROT_READ | (PROT_WRITE if writable else 0), MAP_SHARED, fd, 0)
        if mapping == MAP_FAILED:
            raise TableError(f"a table of {size} octets cannot be mapped")
        self.mapped = size
        self.writable = writable
        self.header = <TableHeader*> mapping
        self.index = <uint64_t*> (<uint8_t*> mapping + HEADER_PAGE)
        if self.header.magic != TABLE_MAGIC or self.header.layout != LAYOUT:
            raise TableError(f"not a response table of layout {LAYOUT}")
        cdef uint64_t buckets = self.header.buckets, data_size = self.header.data_size
        if not 0 < buckets < (1ULL << 32) or data_size > MAX_DATA or HEADER_PAGE + 64 * buckets + data_size != size:
            raise TableError(f"table of {size} octets, expected {HEADER_PAGE + 64 * buckets + data_size} by its header")
        self.data = <uint8_t*> mapping + HEADER_PAGE + 64 * buckets
        self.fd = os.dup(fd)

    def __dealloc__(self):
        if self.header != NULL:
            munmap(self.header, self.mapped)
        if self.fd >= 0:
            close(self.fd)

    cdef uint64_t hash_name(self, const uint8_t* name, unsigned int name_length, uint8_t view) noexcept nogil:
        """Hash a lower-case name that has zeros behind it up to a multiple of eight octets."""
        cdef uint64_t state = self.header.seed[0] ^ (<uint64_t> name_length << 8 | view)
        cdef uint64_t factor = self.header.seed[1] | 1
        cdef uint64_t word
        cdef unsigned int at
        for at in range(0, name_length, 8):
            memcpy(&word, name + at, 8)
            state = kdns_fold(state ^ word, factor)
        return state

    cdef const BlobHeader* find(
        self, const uint8_t* name, unsigned int name_length, uint64_t name_hash, uint16_t qtype, uint8_t view
    ) noexcept nogil:
        """The blob of (name, qtype); with qtype 0 any blob of the name, which proves that it exists; or NULL."""
        cdef const BlobHeader* blob = NULL
        self.find_slot(name, name_length, name_hash, qtype, view, &blob)
        return blob

    cdef uint64_t* find_slot(
        self, const uint8_t* name, unsigned int name_length, uint64_t name_hash, uint16_t qtype, uint8_t view,
        const BlobHeader** found,
    ) noexcept nogil:
        """The slot of a key and the blob it led to, or NULL. A reader uses the blob: the slot may have another by now."""
        cdef uint64_t key = slot_key(name_hash, qtype)
        cdef uint64_t tag = tag_of(key)
        cdef uint64_t* bucket = self.index + SLOTS_PER_BUCKET * first_bucket(key, self.header.buckets)
        cdef uint64_t value
        cdef const BlobHeader* blob
        cdef unsigned int choice, at
        for choice in range(2):
            for at in range(SLOTS_PER_BUCKET):
                value = kdns_load(bucket + at)
                if value >> 32 != tag:
                    continue
                blob = <const BlobHeader*> (self.data + ((value & 0xFFFFFFFFU) << 3))
                if (
                    blob.name_length == name_length
                    and blob.view == view
                    and (qtype == 0 or blob.qtype == qtype)
                    and memcmp(blob_name(blob), name, name_length) == 0
                ):
                    found[0] = blob
                    return bucket + at
            bucket = self.index + SLOTS_PER_BUCKET * second_bucket(tag, self.header.buckets)
        return NULL

    def read_under(self, epoch not None):
        """Say in `epoch`, this reader's row of ReaderEpochs, when a blob may be held; its memory is not reused then."""
        cdef unsigned char[::1] octets = epoch
        if octets.shape[0] < 8:
            raise ValueError(f"{octets.shape[0]} octets of epoch, expected 8")
        self.epoch_owner = octets
        self.epoch = <uint64_t*> &octets[0]
        if self.epoch[0] & 1:           # a reader before this one was killed in a batch
            self.leave()

    cdef void enter(self) noexcept nogil:
        if self.epoch != NULL:
            kdns_store(self.epoch, self.epoch[0] + 1)
            # Between this store and the loads of slots behind it, as the writer's between its stores and seal()'s load:
            # of the two, one sees the other. Release and acquire alone would let both miss.
            kdns_full_fence()

    cdef void leave(self) noexcept nogil:
        if self.epoch != NULL:
            kdns_store(self.epoch, self.epoch[0] + 1)

    def lookup(self, bytes name not None, int qtype, int view):
        """The blob of (name, qtype), or None; qtype 0 asks whether the name exists.

        A tuple (qtype, flags, record_length, answers, additionals, rotate_from, body, record_offsets).
        """
        cdef uint8_t padded[272]
        cdef unsigned int size = pad_name(name, padded)
        cdef uint64_t name_hash = self.hash_name(padded, size, <uint8_t> view)
        cdef const BlobHeader* blob
        self.enter()
        try:
            blob = self.find(padded, size, name_hash, <uint16_t> qtype, <uint8_t> view)
            return None if blob == NULL else _as_tuple(blob)
        finally:
            self.leave()

    def is_synced(self, unsigned int view):
        """Whether all objects of `view` had been listed when this was published."""
        return view < MAX_VIEWS and self.header.unlisted[view] == 0

    def unlisted(self, unsigned int view):
        """The kinds of objects `view` still lacks, as bits; what names depend on them is not known."""
        return self.header.unlisted[view] if view < MAX_VIEWS else UNLISTED_ALL

    def serial(self, unsigned int index):
        """The SOA serial number `index`: 2 * view, and one more for multicluster zones."""
        return self.header.serials[index] if index < 2 * MAX_VIEWS else 0

    @property
    def buckets(self):
        """How many buckets the index has."""
        return self.header.buckets

    def scan(self, unsigned int view, uint64_t first, uint64_t count, bytes prefix=b"", bytes suffix=b""):
        """What the buckets from `first` on hold of a view: (name, as `lookup` has it), for names that begin and end so.

        A key never moves, so that one that is there all the while is met once by whoever visits every bucket.
        """
        cdef uint64_t at, value
        cdef uint64_t end = SLOTS_PER_BUCKET * min(first + count, self.header.buckets)
        cdef const BlobHeader* blob
        cdef unsigned int prefix_size = PyBytes_GET_SIZE(prefix), suffix_size = PyBytes_GET_SIZE(suffix)
        found = []
        self.enter()
        try:
            for at in range(SLOTS_PER_BUCKET * first, end):
                value = kdns_load(self.index + at)
                if value == 0:
                    continue
                blob = <const BlobHeader*> (self.data + ((value & 0xFFFFFFFFU) << 3))
                if blob.view != view or blob.name_length < max(prefix_size, suffix_size):
                    continue
                if blob.qtype != 0 and is_existence_slot(value):
                    continue
                if memcmp(blob_name(blob), PyBytes_AS_STRING(prefix), prefix_size) != 0:
                    continue
                if memcmp(
                    blob_name(blob) + blob.name_length - suffix_size, PyBytes_AS_STRING(suffix), suffix_size
                ) != 0:
                    continue
                found.append(
                    (PyBytes_FromStringAndSize(<const char*> blob_name(blob), blob.name_length), _as_tuple(blob))
                )
        finally:
            self.leave()
        return found

    def keys(self):
        """Every (name, qtype, view) a slot leads to; qtype 0 stands for «the name exists»."""
        cdef uint64_t at, value
        cdef const BlobHeader* blob
        found = []
        for at in range(SLOTS_PER_BUCKET * self.header.buckets):
            value = kdns_load(self.index + at)
            if value:
                blob = <const BlobHeader*> (self.data + ((value & 0xFFFFFFFFU) << 3))
                found.append((
                    PyBytes_FromStringAndSize(<const char*> blob_name(blob), blob.name_length),
                    0 if is_existence_slot(value) else blob.qtype,
                    blob.view,
                ))
        return found

    @property
    def used_bytes(self):
        """Octets of this generation that are in memory."""
        cdef TableHeader* header = self.header
        return HEADER_PAGE + 64 * header.buckets + header.small_end + header.data_size - header.large_start

    @property
    def retired_bytes(self):
        """Octets of blobs that no slot refers to any more."""
        return self.header.retired

    @property
    def load(self):
        """How many of the slots are in use: 0 to 1."""
        return self.header.slots / <double> (SLOTS_PER_BUCKET * self.header.buckets)

    def statistics(self):
        """Numbers of this generation: generation, slots, blobs, octets used and retired, load."""
        cdef TableHeader* header = self.header
        return {
            "generation": header.generation,
            "slots": header.slots,
            "blobs": header.blobs,
            "used_bytes": self.used_bytes,
            "index_bytes": 64 * header.buckets,
            "retired_bytes": header.retired,
            "free_bytes": header.large_start - header.small_end,
            "load": self.load,
            "heartbeat_ns": header.heartbeat_ns,
            "last_change_ns": header.last_change_ns,
        }


cdef tuple _as_tuple(const BlobHeader* blob):
    offsets = None
    if blob.flags & BLOB_INDEXED:
        offsets = [blob_record_offsets(blob)[at] for at in range(blob.answers)]
    return (
        blob.qtype, blob.flags & ~BLOB_NAMED_INSIDE, blob.record_length, blob.answers, blob.additionals, blob.rotate_from,
        PyBytes_FromStringAndSize(<const char*> blob_body(blob), blob.body_length), offsets,
    )
