# Names the compiled path leaves alone; see detours.pyx.
from libc.stdint cimport uint8_t, uint32_t

cdef struct NameTable:
    uint32_t* slots             # where in `names` an entry stands, plus one; 0: free
    uint8_t* names              # each behind an octet with its length
    uint32_t mask               # slots, less one

cdef struct NameSet:
    NameTable exact
    NameTable parents           # of the names a wildcard stands for

cdef class Detours:
    cdef NameSet* set
    cdef Py_ssize_t count

cdef bint is_detour(const NameSet* names, const uint8_t* name, unsigned int length) noexcept nogil
