# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# Each octet is compared with the message's size before it is read.
"""kdns.dns.walker for the compiled path: reads what an upstream sent, and believes nothing it has not walked.

The same verdict and the same sections, by the same steps; a property test compares them on good, damaged and arbitrary
messages. Sections stay where they are: where records follow the OPT record they move up over it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy, memmove, memset

from kdns.hotpath.wire cimport HEADER_SIZE, MAX_NAME

cdef enum:
    MIN_RECORD = 11             # octets: the root as owner, type, class, TTL, length (RFC 1035, 4.1.3)
    FIXED = 10                  # octets of a record between its owner and its data
    MAX_LABEL = 63              # octets (RFC 1035, 2.3.4)
    MAX_LABELS = 128            # of a name of MAX_NAME octets
    POINTER = 0xC0
    TYPE_A = 1
    TYPE_AAAA = 28
    TYPE_OPT = 41
    MAX_NAMED_TYPE = 40
    QR_AND_OPCODE = 0xF800
    RESPONSE = 0x8000
    # Options between neighbours (HOP_BY_HOP of kdns.dns.codes).
    OPTION_COOKIE = 10
    OPTION_KEEPALIVE = 11
    OPTION_PADDING = 12

cdef extern from *:
    """
    #include <stdint.h>
    /* Record data with names that may be compressed (RFC 3597, 4), by type: octets before the names, names, octets
       behind them; no names: data of no known form. */
    static const struct { uint8_t before, names, behind; } kdns_names_in[41] = {
        [2] = {0, 1, 0}, [3] = {0, 1, 0}, [4] = {0, 1, 0}, [5] = {0, 1, 0}, [6] = {0, 2, 20}, [7] = {0, 1, 0},
        [8] = {0, 1, 0}, [9] = {0, 1, 0}, [12] = {0, 1, 0}, [14] = {0, 2, 0}, [15] = {2, 1, 0}, [17] = {0, 2, 0},
        [18] = {2, 1, 0}, [21] = {2, 1, 0}, [26] = {2, 2, 0}, [33] = {6, 1, 0}, [36] = {2, 1, 0}, [39] = {0, 1, 0},
    };
    """
    struct NamesIn:
        uint8_t before
        uint8_t names
        uint8_t behind
    const NamesIn* kdns_names_in


cdef bint walk(
    uint8_t* message, size_t size, const uint8_t* question, size_t question_size, Names* names, Walked* walked
) noexcept nogil:
    """Whether a message is a response to `question` (name, type and class) that can be believed; its id is not looked at.

    The message may have changed in either case.
    """
    cdef size_t start = HEADER_SIZE + question_size
    if size < start or size > MAX_WALKED or question_size < 5:
        return False
    walked.flags = _u16(message + 2)
    if walked.flags & QR_AND_OPCODE != RESPONSE or _u16(message + 4) != 1:
        return False
    if not _is_same_question(message + HEADER_SIZE, question, question_size):
        return False
    walked.answers, walked.authorities, walked.additionals = _u16(message + 6), _u16(message + 8), _u16(message + 10)
    if (<size_t> walked.answers + walked.authorities + walked.additionals) * MIN_RECORD > size - start:
        return False
    walked.rcode = walked.flags & 15
    walked.has_options = False
    walked.body = message + start
    memset(names.lengths, 0, size * sizeof(uint16_t))
    return _walk_sections(message, size, start, names, walked)


cdef bint _is_same_question(const uint8_t* got, const uint8_t* asked, size_t size) noexcept nogil:
    """Whether two questions ask the same; letters' case does not count in the name."""
    cdef size_t at
    if memcmp(got, asked, size) == 0:
        return True
    if memcmp(got + size - 4, asked + size - 4, 4) != 0:
        return False
    for at in range(size - 4):
        if _lower(got[at]) != _lower(asked[at]):
            return False
    return True


cdef bint _walk_sections(uint8_t* message, size_t size, size_t start, Names* names, Walked* walked) noexcept nogil:
    cdef size_t at = start, record, fixed, data, end
    cdef size_t opt_start = 0, opt_end = 0
    cdef unsigned int index, opt_index = 0, rtype
    cdef unsigned int first_additional = <unsigned int> walked.answers + walked.authorities
    cdef unsigned int count = first_additional + walked.additionals
    # The run of addresses alike to the octet that ends the answers: where it begins, and what they share.
    cdef size_t run = start, run_length = 0, run_owner = 0
    cdef unsigned int run_records = 0, run_type = 0
    for index in range(count):
        record = at
        fixed = _skip_name(message, size, at, names)
        if fixed == 0 or fixed + FIXED > size:
            return False
        rtype = _u16(message + fixed)
        data = fixed + FIXED
        end = data + _u16(message + fixed + 8)
        if end > size:
            return False
        if rtype == TYPE_OPT:
            if index < first_additional or opt_start or fixed != record + 1:
                return False
            if not _read_options(message, data, end, walked):
                return False
            opt_start, opt_end, opt_index = record, end, index
            walked.rcode |= <uint16_t> (message[fixed + 4] << 4)
        elif rtype <= MAX_NAMED_TYPE and kdns_names_in[rtype].names:
            if not _are_names(message, size, data, end, rtype, names):
                return False
        elif (rtype == TYPE_A and end != data + 4) or (rtype == TYPE_AAAA and end != data + 16):
            return False
        if index < walked.answers:
            if (
                run_records and end - record == run_length and fixed - record == run_owner
                and memcmp(message + record, message + run, run_owner + 4) == 0
            ):
                run_records += 1
            else:
                run, run_length, run_owner, run_type, run_records = record, end - record, fixed - record, rtype, 1
        at = end
    if opt_start:
        walked.additionals -= 1
        if opt_index + 1 < count:
            at = _move_up(message, opt_start, opt_end, count - 1 - opt_index)
            if at == 0:
                return False
        else:
            at = opt_start
    walked.length = at - start
    if (
        run_records < 2 or walked.authorities or walked.additionals
        or (run_type != TYPE_A and run_type != TYPE_AAAA)
    ):
        run, run_length = start, 0
    walked.rotate_from = <uint16_t> (run - start)
    walked.record_length = <uint16_t> run_length
    return True


cdef size_t _skip_name(const uint8_t* message, size_t size, size_t start, Names* names) noexcept nogil:
    """The offset behind the name at `start`; 0 where it is none."""
    cdef size_t at = start, segment = start, after = 0, target
    cdef unsigned int label, written = 0, total, labels = 0
    cdef uint16_t places[MAX_LABELS]
    cdef uint16_t before[MAX_LABELS]
    if at + 1 < size and message[at] == POINTER and message[at + 1] == HEADER_SIZE:
        return at + 2                   # the question's name: most owners of an answer
    while True:
        if at >= size:
            return 0
        if after and names.lengths[at]:
            total = written + names.lengths[at]
            break
        label = message[at]
        if label == 0:
            total = written + 1
            after = after or at + 1
            break
        if label >= POINTER:
            if at + 1 >= size:
                return 0
            target = (label & 0x3F) << 8 | message[at + 1]
            if target < HEADER_SIZE or target >= segment:
                return 0
            after = after or at + 2
            at = segment = target
            continue
        if label > MAX_LABEL:
            return 0
        places[labels] = <uint16_t> at
        before[labels] = <uint16_t> written
        labels += 1
        written += 1 + label
        if written >= MAX_NAME:
            return 0
        at += 1 + label
    if total > MAX_NAME:
        return 0
    while labels:
        labels -= 1
        names.lengths[places[labels]] = <uint16_t> (total - before[labels])
    return after


cdef bint _are_names(
    const uint8_t* message, size_t size, size_t at, size_t end, unsigned int rtype, Names* names
) noexcept nogil:
    """Whether record data whose form is known has it."""
    cdef unsigned int name
    at += kdns_names_in[rtype].before
    for name in range(kdns_names_in[rtype].names):
        at = _skip_name(message, size, at, names)
        if at == 0:
            return False
    return at + kdns_names_in[rtype].behind == end


cdef bint _read_options(const uint8_t* message, size_t at, size_t end, Walked* walked) noexcept nogil:
    """Whether the options of an OPT record fill it (RFC 6891, 6.1.2)."""
    cdef unsigned int code
    while at < end:
        if at + 4 > end:
            return False
        code = _u16(message + at)
        if code != OPTION_COOKIE and code != OPTION_KEEPALIVE and code != OPTION_PADDING:
            walked.has_options = True
        at += 4 + _u16(message + at + 2)
    return at == end


cdef size_t _move_up(uint8_t* message, size_t opt_start, size_t opt_end, unsigned int records) noexcept nogil:
    """Let the records behind the OPT record stand where it stood; the offset behind them, 0 where one points into it."""
    cdef size_t at = opt_end, to = opt_start, end
    cdef unsigned int index, name, rtype, names, before
    for index in range(records):
        if not _move_name(message, &at, &to, opt_start, opt_end):
            return 0
        rtype = _u16(message + at)
        end = at + FIXED + _u16(message + at + 8)
        names = kdns_names_in[rtype].names if rtype <= MAX_NAMED_TYPE else 0
        before = kdns_names_in[rtype].before if names else 0
        _move(message, &at, &to, FIXED + before)
        for name in range(names):
            if not _move_name(message, &at, &to, opt_start, opt_end):
                return 0
        _move(message, &at, &to, end - at)
    return to


cdef bint _move_name(uint8_t* message, size_t* at, size_t* to, size_t opt_start, size_t opt_end) noexcept nogil:
    """Move a name, its pointer corrected."""
    cdef size_t end = at[0], target
    while 0 < message[end] < POINTER:
        end += 1 + message[end]
    if message[end] == 0:
        _move(message, at, to, end + 1 - at[0])
        return True
    target = _u16(message + end) & 0x3FFF
    if opt_start <= target < opt_end:
        return False
    if target >= opt_end:
        target -= opt_end - opt_start
    _move(message, at, to, end + 2 - at[0])
    message[to[0] - 2] = <uint8_t> (POINTER | target >> 8)
    message[to[0] - 1] = <uint8_t> target
    return True


cdef inline void _move(uint8_t* message, size_t* at, size_t* to, size_t length) noexcept nogil:
    memmove(message + to[0], message + at[0], length)
    at[0] += length
    to[0] += length


cdef inline unsigned int _u16(const uint8_t* at) noexcept nogil:
    return (at[0] << 8) | at[1]


cdef inline uint8_t _lower(uint8_t octet) noexcept nogil:
    return octet + 32 if 65 <= octet <= 90 else octet


def read_sections(bytes message not None, bytes question not None):
    """What walk() makes of a message: None, or (flags, rcode, whether it has options, octets, answers, authorities,
    additionals, rotate_from, record_length); for tests."""
    cdef uint8_t copy[MAX_WALKED]
    cdef Names names
    cdef Walked walked
    cdef size_t size = PyBytes_GET_SIZE(message)
    if size > MAX_WALKED:
        return None
    memcpy(copy, PyBytes_AS_STRING(message), size)
    if not walk(
        copy, size, <const uint8_t*> PyBytes_AS_STRING(question), <size_t> PyBytes_GET_SIZE(question), &names, &walked
    ):
        return None
    return (
        walked.flags, walked.rcode, bool(walked.has_options),
        PyBytes_FromStringAndSize(<char*> walked.body, walked.length), walked.answers, walked.authorities,
        walked.additionals, walked.rotate_from, walked.record_length,
    )
