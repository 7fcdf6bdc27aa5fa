"""`rewrite` of types, classes, TTLs, response codes and CNAME targets."""

from __future__ import annotations

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import Body
from kdns.dns.reply import Reply
from kdns.errors import Dropped, ServeError
from kdns.plugins.plugin import Request
from kdns.resolver import MAX_DEPTH
from tests.fakes.asking import Asker, lines
from tests.fakes.directives import answering, answers_of, failing, request, set_up
from tests.plugins.rewrite.test_names import Backend, record, rewrite

TTL = """. {
    rewrite RULE
    template IN A range.test {
        answer "{{ .Name }} 1 IN A 192.0.2.1"
        authority "range.test. 1000 IN NS ns.test."
        additional "ns.test. 60 IN A 192.0.2.5"
    }
    template IN A other.test {
        answer "{{ .Name }} 1 IN A 192.0.2.1"
    }
}"""


@pytest.mark.parametrize(
    ("rule", "ttls"),
    [
        ("ttl f.range.test 15", [15, 15, 15]),
        ("ttl exact f.range.test 15-15", [15, 15, 15]),
        ("ttl suffix .range.test 30-300", [30, 300, 60]),
        ("ttl suffix .range.test -30", [1, 30, 30]),
        ("ttl suffix .range.test 30-", [30, 1000, 60]),
        ("ttl substring .range. 7", [7, 7, 7]),
        ("ttl prefix f. 7", [7, 7, 7]),
        ("ttl prefix f 7", [7, 7, 7]),  # made `f.`, which begins the name
        ("ttl prefix ra 7", [1, 1000, 60]),
        (r"ttl regex ^[a-z]+\.range\.test\.$ 7", [7, 7, 7]),
        ("ttl other.test 7", [1, 1000, 60]),
    ],
)
async def test_ttls_of_all_sections_are_kept_within_limits(rule: str, ttls: list[int]):
    reply = await Asker(TTL.replace("RULE", rule)).ask("f.range.test.")
    assert [rrset.ttl for section in (1, 2, 3) for rrset in reply.sections[section]] == ttls


async def test_ttl_rules_go_from_the_last_to_the_first():
    plugin = rewrite("continue ttl a.test 10-20", "continue ttl a.test 30")
    asked = request("a.test")
    assert answers_of(asked, await plugin.serve(asked, Backend()))[0].ttl == 20


@pytest.mark.parametrize(
    ("rule", "rcode", "becomes"),
    [
        ("rcode a.test SERVFAIL NOERROR", 2, 0),
        ("rcode a.test 2 0", 2, 0),
        ("rcode exact a.test nxdomain noerror", 3, 0),
        ("rcode suffix test 3 5", 3, 5),
        (r"rcode regex ^a\. 3 5", 3, 5),
        ("rcode a.test NXDOMAIN NOERROR", 2, 2),
        ("rcode b.test SERVFAIL NOERROR", 2, 2),
    ],
)
async def test_response_codes(rule: str, rcode: int, becomes: int):
    plugin = rewrite(rule)
    assert (await plugin.serve(request("a.test"), answering(rcode=rcode))).rcode == becomes
    # And those of replies that nobody has written.
    with pytest.raises(ServeError, match=r"^why$") as caught:
        await plugin.serve(request("a.test"), failing("why", rcode))
    assert caught.value.rcode == becomes


async def test_a_failure_made_noerror_is_an_empty_answer_to_the_clients_question():
    reply = await Asker(
        ". {\n rewrite continue rcode a.test SERVFAIL NOERROR\n template ANY ANY {\n rcode SERVFAIL\n }\n}"
    ).ask("a.test.")
    assert (reply.rcode(), reply.answer) == (0, [])


async def test_a_type_is_asked_as_another_and_the_question_comes_back():
    backend, asked = Backend(), request("a.test", "ANY")
    await rewrite("type any hinfo").serve(asked, backend)
    assert backend.asked[0].query.qtype == RRType.HINFO
    corefile = (
        '. {\n rewrite type ANY HINFO\n template IN HINFO {\n answer "{{ .Name }} 60 IN HINFO a {{ .Type }}"\n }\n}'
    )
    assert lines(await Asker(corefile).ask("a.test.", "ANY")) == ['a.test. 60 IN HINFO "a" "HINFO"']


async def test_classes_go_from_rule_to_rule():
    backend = Backend()
    asked = request("a.test")
    asked = Request(asked.query.with_class(4), asked.client, False, asked.resolve)
    await rewrite("continue class HS CH", "stop class CH IN").serve(asked, backend)
    query = backend.asked[0].query
    assert (query.qclass, query.head[-2:]) == (1, b"\0\1")


async def test_a_response_code_that_needs_edns_is_servfail_without():
    asker = Asker(". {\n rewrite rcode a.test NXDOMAIN BADCOOKIE\n template ANY ANY {\n rcode NXDOMAIN\n }\n}")
    assert (await asker.ask("a.test.")).rcode() == 2
    assert (await asker.ask("a.test.", edns=True)).rcode() == 23


async def test_records_of_another_class_stay_in_it():
    corefile = """. {
        chaos me
        rewrite ttl who.test 7
        template CH TXT {
            answer "{{ .Name }} 60 CH TXT x"
        }
    }"""
    asker = Asker(corefile)
    assert lines(await asker.ask("who.test.", "TXT", "CH")) == ['who.test. 7 CH TXT "x"']


# CNAME


def cname(owner: str, target: str) -> object:
    return record(owner, RRType.CNAME, names.from_text(target))


class Server:
    """A whole server to be asked for what CNAMEs lead to."""

    def __init__(self, *answers: object, truncated: bool = False) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self._answers = answers
        self._truncated = truncated

    async def __call__(self, asked: Request) -> Reply:
        self.asked.append((names.to_text(asked.query.qname), asked.query.qtype, asked.depth))
        reply = await answering(*self._answers)(asked)  # type: ignore[arg-type]
        return Reply(body=reply.body, truncated=self._truncated)


async def retargeted(rule: str, server: Server, *answers: object, rtype: str = "A") -> tuple[list[object], Reply]:
    asked = request("a.test", rtype)
    asked = Request(asked.query, asked.client, False, server)
    reply = await rewrite(rule).serve(asked, Backend(*answers))  # type: ignore[arg-type]
    return list(answers_of(asked, reply)), reply


@pytest.mark.parametrize(
    ("rule", "was", "becomes"),
    [
        ("cname def.test xyz.test", "def.test", "xyz.test."),
        ("cname exact DEF.test. XYZ.test.", "def.test", "xyz.test."),
        ("cname prefix chat.openai.com bard.google.com", "chat.openai.com.cdn.test", "bard.google.com.cdn.test."),
        ("cname suffix uvw. xyz.", "www.hosting.uvw", "www.hosting.xyz."),
        ("cname substring efgh zzzz.www", "abcd.efgh.pqrst", "abcd.zzzz.www.pqrst."),
        (r"cname regex (.*)\.web\.(.*)\.site\. {1}.webapp.{2}.org.", "orders.web.eu.site", "orders.webapp.eu.org."),
        (r"cname regex ^(\D+)\.example\.com\.$ xyz.test", "def.example.com", "xyz.test."),
    ],
)
async def test_a_cnames_target_becomes_another_and_is_resolved(rule: str, was: str, becomes: str):
    server = Server(record(becomes))
    answers, _ = await retargeted(rule, server, cname("a.test", was), record(was))
    assert answers == [cname("a.test", becomes), record(becomes)]
    assert server.asked == [(becomes, RRType.A, 1)]


async def test_the_type_that_was_asked_for_is_asked_of_the_new_target():
    server = Server()
    await retargeted("cname def.test xyz.test", server, cname("a.test", "def.test"), rtype="AAAA")
    assert server.asked == [("xyz.test.", RRType.AAAA, 1)]


async def test_cnames_before_the_one_that_is_changed_stay_and_what_is_behind_it_goes():
    server = Server(cname("two.staging", "end.staging.net"), record("end.staging.net"))
    answers, _ = await retargeted(
        "cname suffix prod. staging.", server,
        cname("a.test", "one.com"), cname("one.com", "two.prod"), cname("two.prod", "end.prod.net"),
        record("end.prod.net"),
    )  # fmt: skip
    assert answers == [
        cname("a.test", "one.com"), cname("one.com", "two.staging"), cname("two.staging", "end.staging.net"),
        record("end.staging.net"),
    ]  # fmt: skip


async def test_an_answer_that_was_cut_makes_the_reply_one_that_was_cut():
    _, reply = await retargeted("cname def.test xyz.test", Server(truncated=True), cname("a.test", "def.test"))
    assert reply.truncated


@pytest.mark.parametrize(
    "rule", ["cname other.test xyz.test", "cname regex ^x y", "cname suffix def.test ..", "cname prefix d ''"]
)
async def test_a_target_that_no_rule_is_for_or_that_would_be_none_stays(rule: str):
    server = Server()
    answers, _ = await retargeted(rule.replace("''", '""'), server, cname("a.test", "def.test"), record("def.test"))
    assert answers == [cname("a.test", "def.test"), record("def.test")]
    assert server.asked == []


async def test_a_target_the_server_is_silent_about_leaves_the_answer_as_it_is():
    async def silent(_: Request) -> Reply:
        raise Dropped

    asked = request("a.test")
    asked = Request(asked.query, asked.client, False, silent)
    reply = await rewrite("cname def.test xyz.test").serve(asked, Backend(cname("a.test", "def.test")))  # type: ignore[arg-type]
    assert answers_of(asked, reply) == [cname("a.test", "def.test")]


async def test_a_ttl_rule_leaves_what_was_fetched_alone():
    server = Server(record("xyz.test"))
    asked = request("a.test")
    asked = Request(asked.query, asked.client, False, server)
    plugin = rewrite("continue ttl a.test 5", "continue cname def.test xyz.test")
    reply = await plugin.serve(asked, Backend(cname("a.test", "def.test")))  # type: ignore[arg-type]
    assert [seen.ttl for seen in answers_of(asked, reply)] == [5, 60]


async def test_a_cname_rule_in_stop_mode_ends_the_list_whether_it_applies_or_not():
    backend = Backend()
    await rewrite("cname x.test y.test", "name a.test b.test").serve(request("a.test"), backend)
    assert names.to_text(backend.asked[0].query.qname) == "a.test."


async def test_targets_that_lead_in_a_circle_come_to_an_end():
    corefile = """. {
        rewrite cname loop.test target.test
        template IN A {
            answer "{{ .Name }} 60 IN CNAME loop.test."
        }
    }"""
    reply = await Asker(corefile).ask("a.test.")
    assert 2 <= len(lines(reply)) <= MAX_DEPTH + 2


async def test_a_reply_that_cannot_be_read_is_a_failure_with_a_reason():
    async def broken(_: Request) -> Reply:
        return Reply(body=Body(b"\xc0\xff" + bytes(10), 1))

    with pytest.raises(ServeError, match=r"^reply cannot be rewritten: "):
        await rewrite("ttl a.test 5").serve(request("a.test"), broken)


def test_rules_for_the_reply_need_no_rule_for_the_question():
    assert set_up("rewrite continue {\n ttl regex (.*)\\.coredns\\.rocks 15\n}") is not None
