# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Names come from plugins, whole and in lower case; lengths are checked where a table is made.
"""Names the compiled path leaves to the chain, because a plugin before the table has its own answer for them.

An open hash table, never more than half full. The names are an operator's, not a client's: whoever asks cannot make
the search longer than these names do. A table is replaced between two batches, by the thread that serves them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

cdef enum:
    MAX_NAME = 255              # octets (RFC 1035, 2.3.4)
    WILDCARD_SIZE = 2           # octets of the label `*` with its length


cdef class Detours:
    """A set of names; one that begins with the label `*` stands for any one label there."""

    def __cinit__(self):
        self.set = <NameSet*> calloc(1, sizeof(NameSet))
        if self.set == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.set != NULL:
            _clear(&self.set.exact)
            _clear(&self.set.parents)
            free(self.set)

    def __len__(self):
        return self.count

    def __contains__(self, bytes name not None):
        return is_detour(self.set, <const uint8_t*> PyBytes_AS_STRING(name), <unsigned int> PyBytes_GET_SIZE(name))

    def replace(self, names):
        """Hold these names from now on, and no others."""
        cdef NameTable exact, parents
        wildcards = [name[WILDCARD_SIZE:] for name in names if name.startswith(b"\x01*")]
        _fill(&exact, list(names))
        try:
            _fill(&parents, wildcards)
        except BaseException:
            _clear(&exact)
            raise
        _clear(&self.set.exact)
        _clear(&self.set.parents)
        self.set.exact = exact
        self.set.parents = parents
        self.count = len(names)


cdef bint is_detour(const NameSet* names, const uint8_t* name, unsigned int length) noexcept nogil:
    if names.exact.slots != NULL and _holds(&names.exact, name, length):
        return True
    if names.parents.slots == NULL or length <= 1u + name[0]:
        return False
    return _holds(&names.parents, name + 1 + name[0], length - 1 - name[0])


cdef int _fill(NameTable* table, list names) except -1:
    cdef uint32_t slots = 2, at, end = 0
    cdef Py_ssize_t octets = 0
    cdef bytes name
    table.slots = NULL
    table.names = NULL
    table.mask = 0
    if not names:
        return 0
    for name in names:
        if not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"name of {len(name)} octets, expected 1 to {MAX_NAME}")
        octets += 1 + len(name)
    while slots < 2 * len(names):
        slots *= 2
    table.slots = <uint32_t*> calloc(slots, sizeof(uint32_t))
    table.names = <uint8_t*> malloc(octets)
    if table.slots == NULL or table.names == NULL:
        _clear(table)
        raise MemoryError()
    table.mask = slots - 1
    for name in names:
        table.names[end] = <uint8_t> len(name)
        memcpy(table.names + end + 1, PyBytes_AS_STRING(name), len(name))
        at = _hash(table.names + end + 1, <unsigned int> len(name)) & table.mask
        while table.slots[at]:
            at = (at + 1) & table.mask
        table.slots[at] = end + 1
        end += 1 + <uint32_t> len(name)
    return 0


cdef void _clear(NameTable* table) noexcept:
    free(table.slots)
    free(table.names)
    table.slots = NULL
    table.names = NULL


cdef inline bint _holds(const NameTable* table, const uint8_t* name, unsigned int length) noexcept nogil:
    cdef uint32_t at = _hash(name, length) & table.mask
    cdef const uint8_t* entry
    while table.slots[at]:
        entry = table.names + table.slots[at] - 1
        if entry[0] == length and memcmp(entry + 1, name, length) == 0:
            return True
        at = (at + 1) & table.mask
    return False


cdef inline uint32_t _hash(const uint8_t* name, unsigned int length) noexcept nogil:
    """FNV-1a."""
    cdef uint32_t value = 2166136261u
    cdef unsigned int at
    for at in range(length):
        value = (value ^ name[at]) * 16777619u
    return value ^ (value >> 15)
