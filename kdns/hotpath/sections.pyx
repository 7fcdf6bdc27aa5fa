# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Each octet is compared with the length before it is read.
"""What the sections of a reply hold, in one pass, and their TTLs made one.

Sections come from other servers: no count and no length in them is believed before it was walked. Names are
checked where they are known to be some; a pointer must lead backwards, to behind the header (RFC 1035, 4.1.4).
"""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint16_t

cdef enum:
    HEADER_SIZE = 12            # octets (RFC 1035, 4.1.1)
    FIXED = 10                  # octets of a record between its owner and its data
    MAX_NAME = 255              # octets (RFC 1035, 2.3.4)
    MAX_TTL = 0x7FFFFFFF        # seconds; a larger one is 0 (RFC 2181, 8)
    RRSIG_FIXED = 18            # octets of an RRSIG's data before the signer's name (RFC 4034, 3.1)
    TYPE_A = 1
    TYPE_NS = 2
    TYPE_CNAME = 5
    TYPE_SOA = 6
    TYPE_PTR = 12
    TYPE_MX = 15
    TYPE_AAAA = 28
    TYPE_SRV = 33
    TYPE_DNAME = 39
    TYPE_OPT = 41
    TYPE_RRSIG = 46
    TYPE_ANY = 255


class Contents(NamedTuple):
    """What a reply's sections hold."""

    lowest_ttl: int     # seconds, of all records
    answers_type: bool  # the answer section has a record of the type asked for
    has_soa: bool       # the authority section has an SOA record
    has_ns: bool        # likewise an NS record
    signatures_valid: bool  # no RRSIG has expired, or is not valid yet
    rotate_from: int    # where a run of addresses begins that differ in nothing but the address
    record_length: int  # of each of them; 0: there is none
    whole_size: int     # octets of the sections with every name written out


def inspect(
    Py_ssize_t question_end, bytes octets not None, unsigned int answers, unsigned int authorities,
    unsigned int additionals, unsigned int qtype, uint32_t now,
):
    """What sections that stand behind the question hold; None where they are not what the counts say.

    `now` is the time of day in seconds, for signatures. A run of addresses is found where it ends the reply.
    """
    cdef Facts facts
    if not examine(
        question_end, <const uint8_t*> PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets), answers, authorities,
        additionals, qtype, now, &facts,
    ):
        return None
    return Contents(
        facts.lowest_ttl, bool(facts.answers_type), bool(facts.has_soa), bool(facts.has_ns),
        bool(facts.signatures_valid), facts.rotate_from, facts.record_length, facts.whole_size,
    )


def with_ttl(bytes octets not None, unsigned int records, uint32_t ttl):
    """Sections whose records all have this TTL; they have been inspected."""
    made = PyBytes_FromStringAndSize(PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
    if records:
        put_ttls(<uint8_t*> PyBytes_AS_STRING(made), <size_t> PyBytes_GET_SIZE(made), records, ttl)
    return made


cdef bint examine(
    Py_ssize_t question_end, const uint8_t* start, Py_ssize_t length, unsigned int answers, unsigned int authorities,
    unsigned int additionals, unsigned int qtype, uint32_t now, Facts* facts,
) noexcept nogil:
    """Fill in what inspect() tells; False where the sections are not what the counts say."""
    cdef Py_ssize_t at = 0, fixed, end
    cdef unsigned int index, rtype, data
    cdef uint32_t ttl, lowest = MAX_TTL
    cdef bint answers_type = False, has_soa = False, has_ns = False, signatures_valid = True
    # The run so far: where it begins, how many records, and what they are like.
    cdef Py_ssize_t run = 0, run_length = 0, run_owner = 0
    cdef unsigned int run_count = 0, run_type = 0
    cdef Py_ssize_t whole = 0, size
    for index in range(answers + authorities + additionals):
        fixed = _skip_name(start, length, at, question_end)
        if fixed < 0 or fixed + FIXED > length:
            return False
        rtype = _u16(start + fixed)
        data = _u16(start + fixed + 8)
        end = fixed + FIXED + data
        if end > length:
            return False
        size = _name_size(start, length, at, question_end)
        if size < 0:
            return False
        whole += size + FIXED
        size = _data_size(start, end, fixed + FIXED, rtype, question_end)
        if size < 0:
            return False
        whole += size
        ttl = _u32(start + fixed + 4)
        if rtype == TYPE_OPT:
            return False
        lowest = min(lowest, 0 if ttl > MAX_TTL else ttl)
        if rtype == TYPE_RRSIG:
            signatures_valid = signatures_valid and data >= RRSIG_FIXED and _is_valid(start + fixed + FIXED, now)
        if index < answers:
            answers_type = answers_type or rtype == qtype or qtype == TYPE_ANY
            if (
                run_count and rtype == run_type and end - at == run_length and fixed - at == run_owner
                and _is_same(start + at, start + run, run_owner + 4) and _u16(start + fixed + 8) == data
            ):
                run_count += 1
            else:
                run, run_length, run_owner, run_type = at, end - at, fixed - at, rtype
                run_count = 1
        elif index < answers + authorities:
            has_soa = has_soa or rtype == TYPE_SOA
            has_ns = has_ns or rtype == TYPE_NS
        at = end
    if at != length:
        return False
    if run_count < 2 or authorities or additionals or run_length > 255 or (run_type != TYPE_A and run_type != TYPE_AAAA):
        run = run_length = 0
    facts.lowest_ttl = lowest
    facts.answers_type, facts.has_soa, facts.has_ns = answers_type, has_soa, has_ns
    facts.signatures_valid = signatures_valid
    facts.rotate_from, facts.record_length = <uint16_t> run, <uint8_t> run_length
    facts.whole_size = <uint32_t> whole
    return True


cdef size_t put_ttls(uint8_t* octets, size_t length, unsigned int records, uint32_t ttl) noexcept nogil:
    """Give so many records a TTL; the offset behind the last of them that is whole."""
    cdef size_t at = 0, fixed, end
    cdef unsigned int index
    for index in range(records):
        end = whole_record(octets, length, at)
        if end == 0:
            break
        fixed = end - _data_of(octets, at)
        octets[fixed - 6] = <uint8_t> (ttl >> 24)
        octets[fixed - 5] = <uint8_t> (ttl >> 16)
        octets[fixed - 4] = <uint8_t> (ttl >> 8)
        octets[fixed - 3] = <uint8_t> ttl
        at = end
    return at


cdef size_t whole_record(const uint8_t* octets, size_t length, size_t at) noexcept nogil:
    """The offset behind the record at `at`; 0 where it does not end within `length`."""
    cdef size_t end
    while at < length and octets[at] and octets[at] < 0xC0:
        at += 1 + octets[at]
    if at >= length:
        return 0
    at += 2 if octets[at] else 1
    if at + FIXED > length:
        return 0
    end = at + FIXED + _u16(octets + at + 8)
    return end if end <= length else 0


cdef inline size_t _data_of(const uint8_t* octets, size_t at) noexcept nogil:
    """The octets of data of a whole record."""
    while octets[at] and octets[at] < 0xC0:
        at += 1 + octets[at]
    return _u16(octets + at + (2 if octets[at] else 1) + 8)


cdef Py_ssize_t _skip_name(const uint8_t* octets, Py_ssize_t length, Py_ssize_t at, Py_ssize_t question_end) noexcept nogil:
    """The offset behind the name at `at`, or -1; it is not followed."""
    cdef Py_ssize_t start = at
    cdef unsigned int label, target
    while at < length:
        label = octets[at]
        if label == 0:
            return at + 1
        if label >= 0xC0:
            if at + 2 > length:
                return -1
            target = _u16(octets + at) & 0x3FFF
            return at + 2 if HEADER_SIZE <= target < start + question_end else -1
        if label > 63 or at - start + label >= MAX_NAME:
            return -1
        at += 1 + label
    return -1


cdef Py_ssize_t _name_size(const uint8_t* octets, Py_ssize_t length, Py_ssize_t at, Py_ssize_t question_end) noexcept nogil:
    """The octets of the name at `at` when written out; -1 where it is none."""
    cdef Py_ssize_t start = at, size = 1, target
    cdef unsigned int label
    while at < length:
        label = octets[at]
        if label == 0:
            return size if size <= MAX_NAME else -1
        if label >= 0xC0:
            if at + 2 > length:
                return -1
            target = _u16(octets + at) & 0x3FFF
            if target < question_end:       # a name of the question is not compressed
                size += question_end - 4 - target - 1
                return size if HEADER_SIZE <= target < question_end - 4 and size <= MAX_NAME else -1
            at = target - question_end
            if at >= start:
                return -1
            start = at
            continue
        if label > 63:
            return -1
        size += 1 + label
        if size > MAX_NAME:
            return -1
        at += 1 + label
    return -1


cdef Py_ssize_t _data_size(
    const uint8_t* octets, Py_ssize_t end, Py_ssize_t at, unsigned int rtype, Py_ssize_t question_end
) noexcept nogil:
    """The octets of a record's data when the names in it are written out; -1 where they are none (RFC 3597, 4)."""
    cdef Py_ssize_t size = 0, part
    cdef unsigned int names, index, behind = 0
    if rtype == TYPE_NS or rtype == TYPE_CNAME or rtype == TYPE_PTR or rtype == TYPE_DNAME:
        names = 1
    elif rtype == TYPE_SOA:
        names, behind = 2, 20
    elif rtype == TYPE_MX:
        names, size = 1, 2
    elif rtype == TYPE_SRV:
        names, size = 1, 6
    else:
        return end - at
    at += size
    for index in range(names):
        part = _name_size(octets, end, at, question_end)
        at = _skip_name(octets, end, at, question_end)
        if part < 0 or at < 0:
            return -1
        size += part
    return size + behind if at + behind == end else -1


cdef inline bint _is_valid(const uint8_t* signature, uint32_t now) noexcept nogil:
    """Whether now lies between an RRSIG's inception and expiration, as serial numbers (RFC 4034, 3.1.5)."""
    return <int32_t> (now - _u32(signature + 12)) >= 0 and <int32_t> (_u32(signature + 8) - now) >= 0


cdef inline bint _is_same(const uint8_t* one, const uint8_t* other, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t at
    for at in range(length):
        if one[at] != other[at]:
            return False
    return True


cdef inline unsigned int _u16(const uint8_t* at) noexcept nogil:
    return (at[0] << 8) | at[1]


cdef inline uint32_t _u32(const uint8_t* at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]
