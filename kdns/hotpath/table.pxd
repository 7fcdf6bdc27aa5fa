# The layout of a generation in memory, shared by its one writer and all its readers.
#
#   0                4096                       4096 + 64 * buckets            data_size
#   +----------------+--------------------------+------------------------------+
#   | TableHeader    | index: 64-octet buckets  | data                         |
#   +----------------+--------------------------+------------------------------+
#
#   slot (u64)   32-bit tag | 32-bit reference, in units of 8 octets from the start of data; 0 = empty
#   data         small blobs grow upwards and never cross a 64 KiB page; large ones grow down from the end
#   blob         BlobHeader | name, lower case (not NAMED_INSIDE) | body | zeros up to 8 | record offsets (INDEXED)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_VIEWS = 64              # `kubernetes` directives with different options in one Corefile
    SLOTS_PER_BUCKET = 8        # one cache line
    EPOCH_STRIDE = 8            # u64; readers on different processors write to different cache lines
    UNLISTED_ALL = 255          # of a view: nothing has been listed yet
    TARGET_AT = 18              # octets of a body before its first SRV target, the owner being a pointer

cdef enum BlobFlags:
    # The body holds the zone's name outside pointers: right as it is only for a query in lower case.
    BLOB_SPELLS_ZONE = 1
    BLOB_LEAVES_ZONE = 2        # a CNAME chain whose end must be resolved elsewhere
    BLOB_ALIAS = 4              # the body is the name whose answers this name gives
    BLOB_HAS_PORTS = 8          # names two labels below may be spelled without underscores
    BLOB_HAS_SERIAL = 16        # an SOA record: its serial comes from the header
    BLOB_INDEXED = 32           # behind the body, 8-aligned: u32 offset of each answer record
    BLOB_NAMED_INSIDE = 64      # an SRV record whose target is the name: it stands there, and not in front

cdef packed struct BlobHeader:
    uint32_t body_length
    uint16_t qtype              # 0: the name exists, and has no type with data
    uint8_t name_length
    uint8_t view
    uint8_t flags
    uint8_t record_length       # of the records from `rotate_from` on, all alike; 0: not rotatable
    uint16_t answers
    uint16_t additionals
    uint16_t rotate_from

cdef struct TableHeader:
    uint64_t magic
    uint64_t layout
    uint64_t generation
    uint64_t seed[2]
    uint64_t buckets
    uint64_t data_size          # octets
    uint64_t heartbeat_ns       # CLOCK_MONOTONIC, by the writer
    uint64_t last_change_ns     # CLOCK_REALTIME of the last publication
    uint64_t small_end          # octets of data used from the front
    uint64_t large_start        # octets of data not used up to the end
    uint64_t retired            # octets of blobs no slot refers to any more
    uint64_t slots              # in use
    uint64_t blobs              # in use
    uint8_t unlisted[MAX_VIEWS]         # kinds of objects a view still lacks, as bits; 0: the view is complete
    uint32_t serials[2 * MAX_VIEWS]     # SOA serials: of a view's ordinary zones, of its multicluster zones

cdef class Table:
    cdef TableHeader* header
    cdef uint64_t* index
    cdef uint8_t* data
    cdef size_t mapped
    cdef readonly int fd
    cdef uint64_t* epoch        # odd while this reader may hold a blob; NULL: nobody reuses memory under it
    cdef object epoch_owner
    cdef readonly bint writable

    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
    cdef const BlobHeader* find(
        self, const uint8_t* name, unsigned int name_length, uint64_t name_hash, uint16_t qtype, uint8_t view
    ) noexcept nogil
    cdef uint64_t* find_slot(
        self, const uint8_t* name, unsigned int name_length, uint64_t name_hash, uint16_t qtype, uint8_t view,
        const BlobHeader** found,
    ) noexcept nogil
    cdef uint64_t hash_name(self, const uint8_t* name, unsigned int name_length, uint8_t view) noexcept nogil


cdef inline const uint8_t* blob_name(const BlobHeader* blob) noexcept nogil:
    return <const uint8_t*> blob + sizeof(BlobHeader) + (TARGET_AT if blob.flags & BLOB_NAMED_INSIDE else 0)


cdef inline unsigned int blob_body_at(const BlobHeader* blob) noexcept nogil:
    """Where the body begins, behind the header."""
    return 0 if blob.flags & BLOB_NAMED_INSIDE else blob.name_length


cdef inline const uint8_t* blob_body(const BlobHeader* blob) noexcept nogil:
    return <const uint8_t*> blob + sizeof(BlobHeader) + blob_body_at(blob)


cdef inline const uint32_t* blob_record_offsets(const BlobHeader* blob) noexcept nogil:
    cdef uint64_t end = blob_body_at(blob) + <uint64_t> blob.body_length
    return <const uint32_t*> (<const uint8_t*> blob + sizeof(BlobHeader) + ((end + 7) & ~<uint64_t> 7))


cdef class TableWriter(Table):
    cdef const uint64_t* epochs         # of all readers, EPOCH_STRIDE apart
    cdef size_t readers
    cdef object epochs_owner
    cdef dict free_rooms                # size -> offsets of rooms nobody can be reading
    cdef list retiring                  # (offset, size) of blobs retired since the last seal
    cdef object limbo                   # (epochs when sealed, such a list), the oldest first

    cdef uint64_t _put(
        self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view, unsigned int node_flags,
        tuple response, bint* changed,
    ) except 0
    cdef uint64_t _write(
        self, const uint8_t* name, unsigned int size, uint8_t view, unsigned int node_flags, tuple response
    ) except 0
    cdef bint _load_node(self, tuple node, uint8_t view) except -1
    cdef uint64_t _place(
        self, BlobHeader* header, const uint8_t* name, const uint8_t* body, const uint8_t* offsets
    ) except 0
    cdef uint64_t _copy_blob(self, const BlobHeader* source) except 0
    cdef uint64_t _allocate(self, uint64_t size) except 0
    cdef int _insert(self, uint64_t key, uint64_t reference) except -1
    cdef void _clear(self, uint64_t* slot) noexcept
    cdef int _retire(self, const BlobHeader* blob) except -1
    cdef bint _has_passed(self, const uint64_t* sealed) noexcept nogil
    cdef int _delete_types(
        self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view, uint64_t present
    ) except -1
    cdef void _touch(self) noexcept
