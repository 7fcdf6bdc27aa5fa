import pytest

from bench.cluster import Sizes, generate
from bench.errors import BenchError
from bench.loads import recorded_load
from bench.records import Question
from bench.replay import read_questions, read_recorded

LOG = """\
.:53
[INFO] plugin/reload: Running configuration SHA512 = abc
[INFO] 10.0.3.7:41201 - 5120 "A IN web.shop.svc.cluster.local. udp 51 false 1232" NOERROR qr,aa,rd 100 0.000101s
2026-11-21T16:00:00Z stdout F [INFO] [2001:db8::1]:9 - 7 "SRV IN _http._tcp.web.shop.svc.cluster.local. tcp 9 true 99" \
NXDOMAIN qr 1 0.1s
[ERROR] plugin/errors: 2 x. A: unreachable
[INFO] 10.0.3.7:41201 - 5121 "RESERVED0 IN web. udp 51 false 512" NOTIMP qr 10 0.000101s
"""


def test_a_query_log_is_replayed_line_by_line(tmp_path):
    path = tmp_path / "coredns.log"
    path.write_text(LOG)

    assert read_recorded(path) == [
        Question("web.shop.svc.cluster.local.", "A"),
        Question("_http._tcp.web.shop.svc.cluster.local.", "SRV"),
    ]


def test_questions_are_read_as_dnsperf_reads_them(tmp_path):
    path = tmp_path / "questions"
    path.write_text("; a comment\n\nweb.shop. A\nshop. SRV\n")

    assert read_recorded(path) == [Question("web.shop.", "A"), Question("shop.", "SRV")]


@pytest.mark.parametrize("line", ["web", "web. A B", "web. NOTYPE", "web..shop. A"])
def test_a_line_that_is_no_question_is_named(line):
    with pytest.raises(BenchError, match=r"line 2 of the questions: met '.*', expected a name and a type"):
        list(read_questions(["web. A", line]))


@pytest.mark.parametrize(
    ("octets", "says"),
    [(b"; nothing\n", "there is no question in it"), (b"\xff\xfe\x00", "neither text nor a pcap file")],
)
def test_a_file_without_questions_is_named(tmp_path, octets, says):
    path = tmp_path / "file"
    path.write_bytes(octets)

    with pytest.raises(BenchError, match=f"{path}: .*{says}"):
        read_recorded(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BenchError, match="No such file or directory; expected questions, a query log or a pcap file"):
        read_recorded(tmp_path / "missing")


def test_recorded_questions_are_asked_in_their_order_and_again():
    questions = [Question("b.", "A"), Question("a.", "A")]
    cluster = generate(Sizes(10, 20, 1, 5))

    assert recorded_load(questions).questions(cluster, 5) == [*questions, *questions, questions[0]]
