# What the parser guarantees about a datagram it accepted; see wire.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    HEADER_SIZE = 12            # octets (RFC 1035, 4.1.1)
    MAX_NAME = 255              # octets of a name in wire form (RFC 1035, 2.3.4)
    NAME_BUFFER = 272           # MAX_NAME, and zeros to read past its end eight octets at a time

cdef enum Verdict:
    VERDICT_QUERY = 0           # one question of class IN, to be answered
    VERDICT_DROP_SHORT = 1      # fewer octets than a header
    VERDICT_DROP_RESPONSE = 2   # QR is set: answering could make a loop
    VERDICT_NOTIMP = 3          # an opcode other than QUERY
    VERDICT_FORMERR = 4
    VERDICT_BADVERS = 5         # EDNS version other than 0
    VERDICT_CLASS = 6           # a question of another class

cdef struct Query:
    uint16_t question_end       # offset of the first octet after the question
    uint16_t name_length        # octets, the root label included
    uint16_t qtype
    uint16_t qclass
    uint16_t payload_size       # of the OPT record; 0 where there is none
    uint8_t labels              # without the root
    uint8_t has_edns
    uint8_t dnssec_ok
    uint8_t keepalive           # the client sent edns-tcp-keepalive (RFC 7828)
    uint8_t nsid                # the client wants to know which server answers (RFC 5001)
    uint8_t has_upper_case
    uint64_t boundaries[4]      # bit n: a label starts at octet n of the name
    uint8_t name[NAME_BUFFER]   # lower case, zeros behind it

cdef Verdict parse(const uint8_t* packet, Py_ssize_t length, Query* query) noexcept nogil

cdef inline void put_u16(uint8_t* at, unsigned int value) noexcept nogil:
    at[0] = <uint8_t> (value >> 8)
    at[1] = <uint8_t> value
