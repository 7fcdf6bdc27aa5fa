import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from bench.cluster import Sizes, generate
from bench.errors import PeerError
from bench.records import Question, Truth, service_name
from bench.verify import check_reply

CLUSTER = generate(Sizes(services=100, endpoints=500, headless=10, largest=200))
TRUTH = Truth(CLUSTER)
QUESTION = Question(service_name(CLUSTER.headless(200)[0]), "A")
RIGHT = sorted(TRUTH.answer(QUESTION).rdata)


def reply(addresses, rcode="NOERROR", is_cut=False):
    message = dns.message.make_response(dns.message.make_query(QUESTION.name, QUESTION.type))
    message.set_rcode(dns.rcode.from_text(rcode))
    if is_cut:
        message.flags |= dns.flags.TC
    if addresses:
        message.answer.append(dns.rrset.from_text(QUESTION.name, 5, "IN", "A", *addresses))
    return message


def test_the_right_records_in_any_order_are_right():
    check_reply(QUESTION, reply(RIGHT[::-1]), TRUTH)


@pytest.mark.parametrize("count", [0, 20, 200])
def test_a_cut_reply_may_hold_any_part_of_them(count):
    check_reply(QUESTION, reply(RIGHT[:count], is_cut=True), TRUTH)


def test_a_missing_record_is_wrong():
    with pytest.raises(PeerError, match=r"199 records \(fewer\), expected 200"):
        check_reply(QUESTION, reply(RIGHT[1:]), TRUTH)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_record_of_another_name_is_wrong(is_cut):
    with pytest.raises(PeerError, match=r"192\.0\.2\.1"):
        check_reply(QUESTION, reply([*RIGHT, "192.0.2.1"], is_cut=is_cut), TRUTH)


def test_another_rcode_is_wrong():
    with pytest.raises(PeerError, match="answered SERVFAIL, expected NOERROR"):
        check_reply(QUESTION, reply([], "SERVFAIL"), TRUTH)
