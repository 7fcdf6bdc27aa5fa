# The table's one writer; see table_writer.pyx, and table.pxd for the layout.
from libc.stdint cimport uint8_t, uint16_t, uint64_t

from kdns.hotpath.table cimport BlobHeader, Table

cdef class TableWriter(Table):
    cdef const uint64_t* epochs         # of all readers, EPOCH_STRIDE apart
    cdef size_t readers
    cdef object epochs_owner
    cdef dict free_rooms                # size -> offsets of rooms nobody can be reading
    cdef list retiring                  # (offset, size) of blobs retired since the last seal
    cdef object limbo                   # (epochs when sealed, such a list), the oldest first

    cdef uint64_t _put_alias(
        self, BlobHeader* header, const uint8_t* name, uint64_t name_hash, const uint8_t* body
    ) except 0
    cdef uint64_t _put_blob(
        self, BlobHeader* header, const uint8_t* name, uint64_t name_hash, const uint8_t* body, const uint8_t* offsets,
        bint* changed,
    ) except 0
    cdef bint _remove(self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view) except -1
    cdef bint _settle(
        self, const uint8_t* name, unsigned int size, uint64_t name_hash, uint8_t view, unsigned int node_flags,
        uint64_t first, uint64_t present, bint changed,
    ) except -1
    cdef void _fetch(self, uint64_t key) noexcept
    cdef uint64_t _write(
        self, const uint8_t* name, unsigned int size, uint8_t view, unsigned int node_flags, tuple response
    ) except 0
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
