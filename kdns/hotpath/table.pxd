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
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from kdns.hotpath.atomics cimport kdns_fold

cdef extern from *:
    """
    #define KDNS_TABLE_MAGIC 0x314C425453444E4BULL      /* "KNDSTBL1" as octets */
    #define KDNS_QTYPE_FACTOR 0x9E3779B97F4A7C15ULL
    #define KDNS_BUCKET_FACTOR 0xC2B2AE3D27D4EB4FULL
    #define KDNS_EXISTENCE_BIT (1ULL << 32)             /* of a key, and so of its slot */
    #define KDNS_MAX_DATA (1ULL << 35)                  /* octets: 32-bit references in units of 8 */
    """
    const uint64_t TABLE_MAGIC "KDNS_TABLE_MAGIC"
    const uint64_t QTYPE_FACTOR "KDNS_QTYPE_FACTOR"
    const uint64_t BUCKET_FACTOR "KDNS_BUCKET_FACTOR"
    const uint64_t EXISTENCE_BIT "KDNS_EXISTENCE_BIT"
    const uint64_t MAX_DATA "KDNS_MAX_DATA"

cdef enum:
    HEADER_PAGE = 4096          # octets
    LAYOUT = 3
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


cdef inline uint64_t slot_key(uint64_t name_hash, uint16_t qtype) noexcept nogil:
    # The last bit of the tag tells the slots that say «exists» from those of a type, for certain.
    cdef uint64_t key = kdns_fold(name_hash ^ (<uint64_t> qtype + 1) * QTYPE_FACTOR, BUCKET_FACTOR)
    return (key & ~EXISTENCE_BIT) | (EXISTENCE_BIT if qtype == 0 else 0)


cdef inline uint64_t tag_of(uint64_t key) noexcept nogil:
    return (key >> 32) | (2 if key >> 32 == 0 else 0)


cdef inline uint64_t first_bucket(uint64_t key, uint64_t buckets) noexcept nogil:
    return ((key & 0xFFFFFFFFU) * buckets) >> 32


cdef inline uint64_t second_bucket(uint64_t tag, uint64_t buckets) noexcept nogil:
    return (((tag * BUCKET_FACTOR) >> 32) * buckets) >> 32


cdef inline bint is_existence_slot(uint64_t value) noexcept nogil:
    """Whether a slot was made for «the name exists», which may share its blob with a type."""
    return value & EXISTENCE_BIT != 0


cdef inline void pad(const uint8_t* name, size_t size, uint8_t* padded) noexcept nogil:
    """A name with zeros behind it, as it is hashed."""
    memset(padded + (size & ~<size_t> 7), 0, 16)
    memcpy(padded, name, size)


cdef inline unsigned int pad_name(bytes name, uint8_t* padded) except 0:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    if not 0 < size <= 255:
        raise ValueError(f"name of {size} octets, expected 1 to 255")
    pad(<const uint8_t*> PyBytes_AS_STRING(name), size, padded)
    return <unsigned int> size
