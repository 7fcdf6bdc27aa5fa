"""`minimal`: what is left of a reply."""

from __future__ import annotations

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import write_body
from kdns.dns.records import read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.plugins.plugin import Handler, Request
from tests.fakes.directives import build, refused, request, set_up

NAME, HOST = names.from_text("a.test"), names.from_text("ns.a.test")
ADDRESS = Record(NAME, RRType.A, 60, bytes((192, 0, 2, 1)))
ALIAS = Record(NAME, RRType.CNAME, 60, HOST)
NS = Record(NAME, RRType.NS, 60, HOST)
SOA = Record(NAME, RRType.SOA, 60, HOST + HOST + bytes(20))
GLUE = Record(HOST, RRType.A, 60, bytes((192, 0, 2, 2)))


def replying(rcode: int, *sections: list[Record]) -> Handler:
    async def reply(asked: Request) -> Reply:
        return Reply(rcode, write_body(asked.query.name, *sections), recursion_available=True, writer="forward")

    return reply


@pytest.mark.parametrize("answers", [[ADDRESS], [ALIAS, GLUE]])
async def test_a_success_is_left_with_its_answers(answers: list[Record]):
    reply = await set_up("minimal").serve(request(), replying(0, answers, [NS], [GLUE]))
    assert read_sections(request().query.head, reply.body) == (answers, [], [])
    assert (reply.recursion_available, reply.writer) == (True, "forward")


@pytest.mark.parametrize(
    ("rcode", "sections"),
    [
        (0, ([], [SOA], [])),
        (0, ([], [NS], [GLUE])),
        (3, ([], [SOA], [GLUE])),
        (3, ([ALIAS], [SOA], [])),
        (2, ([], [], [GLUE])),
        (5, ([], [], [GLUE])),
        (0, ([ADDRESS], [], [])),
    ],
    ids=["nodata", "delegation", "nxdomain", "nxdomain with answer", "servfail", "refused", "nothing to take"],
)
async def test_everything_else_stays_as_it_is(rcode: int, sections: tuple[list[Record], ...]):
    handler = replying(rcode, *sections)
    assert await set_up("minimal").serve(request(), handler) == await handler(request())


async def test_nothing_to_say_is_a_success_too():
    reply = await set_up("minimal").serve(request(), replying(0, [], [], [GLUE]))
    assert read_sections(request().query.head, reply.body) == ([], [], [])


def test_the_table_leaves_additional_records_to_it():
    (listener,) = build("cluster.local {\nminimal\nkubernetes\n}").listeners
    assert [(route.action, route.additional_is_miss) for route in listener.routes()] == [(1, True)]


def test_takes_no_argument():
    text = "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'x'"
    assert refused("minimal x") == f"plugin/minimal: {text}"
