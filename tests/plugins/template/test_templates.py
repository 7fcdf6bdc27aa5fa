"""`template`: which one is for a question, what it answers, and what goes wrong."""

from __future__ import annotations

import dns.flags
import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped, ServeError
from kdns.plugins.plugin import Handler, Request, Surroundings
from kdns.plugins.template.templates import Templates
from tests.fakes.asking import Asker, lines
from tests.fakes.directives import CLIENT, answering, answers_of, request, set_up
from tests.fakes.logs import collected


def template(text: str, surroundings: Surroundings | None = None) -> Templates:
    plugin = set_up(text, surroundings, zones=(".",))
    assert isinstance(plugin, Templates)
    return plugin


async def behind(_: Request) -> Reply:
    return Reply(writer="behind")


async def writer(text: str, name: str, rtype: str = "A", rclass: int = 1) -> str:
    """Who answers: the template, what is behind it, or nobody."""
    asked = request(name, rtype)
    asked = Request(asked.query.with_class(rclass), CLIENT, False, asked.resolve)
    try:
        return (await template(text).serve(asked, behind)).writer
    except ServeError as error:
        return str(error) or ("nobody" if error.rcode == 2 else f"rcode {error.rcode}")


ANSWER = 'answer "{{ .Name }} 60 IN A 192.0.2.1"'


@pytest.mark.parametrize(
    ("text", "name", "rtype", "rclass", "who"),
    [
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "a.x.test", "A", 1, "template"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "x.test", "A", 1, "template"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "xx.test", "A", 1, "behind"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "x.test", "AAAA", 1, "behind"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "x.test", "ANY", 1, "template"),
        ("template IN ANY x.test {\n rcode NXDOMAIN\n}", "x.test", "MX", 1, "template"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "x.test", "A", 3, "behind"),
        ("template IN A x.test {\n rcode NXDOMAIN\n}", "x.test", "A", 255, "template"),
        ("template ANY ANY {\n rcode NXDOMAIN\n}", "x.test", "A", 3, "template"),
        ("template IN A x.test y.test {\n rcode NXDOMAIN\n}", "y.test", "A", 1, "template"),
        ("template IN PTR 10.0.0.0/8 {\n rcode NXDOMAIN\n}", "1.2.3.10.in-addr.arpa", "PTR", 1, "template"),
        # The first of the expressions that a name meets; none: nobody answers, unless it may fall through.
        ("template IN A {\n match ^a\\. ^b\\.\n match ^c\\.\n rcode NXDOMAIN\n}", "c.test", "A", 1, "template"),
        ("template IN A {\n match ^a\\.\n rcode NXDOMAIN\n}", "c.test", "A", 1, "nobody"),
        ("template IN A {\n match ^a\\.\n rcode NXDOMAIN\n fallthrough\n}", "c.test", "A", 1, "behind"),
        ("template IN A {\n match ^a\\.\n rcode NXDOMAIN\n fallthrough x.test\n}", "b.x.y", "A", 1, "nobody"),
        ("template IN A {\n match ^b\\.\n rcode NXDOMAIN\n fallthrough x.test\n}", "a.x.test", "A", 1, "behind"),
        # The next template is asked before the next plugin.
        ("template IN A {\n match ^a\\.\n rcode NXDOMAIN\n fallthrough\n}\ntemplate IN A {\n rcode NXDOMAIN\n}",
         "c.test", "A", 1, "template"),
        ("template IN A {\n rcode SERVFAIL\n}", "c.test", "A", 1, "nobody"),
        ("template IN A {\n rcode REFUSED\n}", "c.test", "A", 1, "template"),
        ("template IN A {\n upstream 192.0.2.53\n}", "c.test", "A", 1, "template"),
    ],
)  # fmt: skip
async def test_who_answers(text: str, name: str, rtype: str, rclass: int, who: str):
    assert await writer(text, name, rtype, rclass) == who


async def test_records_of_all_sections():
    reply = await Asker(
        '. {\n template IN MX x.test {\n answer "{{ .Name }} 60 IN MX 10 mail.x.test."'
        ' "{{ .Name }} 60 IN MX 20 m2.x.test."\n'
        ' authority "x.test. 62 IN NS ns.x.test."\n additional "mail.x.test. 61 IN A 192.0.2.25"\n'
        ' additional "m2.x.test. 61 IN A 192.0.2.26"\n }\n}'
    ).ask("A.X.test.", "MX")
    assert lines(reply) == ["a.x.test. 60 IN MX 10 mail.x.test.", "a.x.test. 60 IN MX 20 m2.x.test."]
    assert lines(reply, 2) == ["x.test. 62 IN NS ns.x.test."]
    assert lines(reply, 3) == ["mail.x.test. 61 IN A 192.0.2.25", "m2.x.test. 61 IN A 192.0.2.26"]
    assert reply.flags & dns.flags.AA
    assert not reply.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("{{ .Zone }}|{{ .Name }}|{{ .Class }}|{{ .Type }}|{{ .Remote }}", "test.|ab.test.|IN|TXT|192.0.2.1"),
        ("{{ index .Match 0 }}|{{ .Group.first }}|{{ index .Group `2` }}|{{ .Regex }}", "ab|a|b|^(?P<first>.)(.)"),
        ("{{ .Meta `kubernetes/client-namespace` }}|", "|"),
        ("{{ .Question.Name }}|{{ .Question.Qtype }}|{{ .Question.Qclass }}", "ab.test.|16|1"),
        (
            "{{ .Message.RecursionDesired }}|{{ (index .Message.Question 0).Name }}|{{ len .Message.Answer }}",
            "true|ab.test.|0",
        ),
        ("{{ .Message.Id }}", "1"),
    ],
)
async def test_what_a_template_knows(expression: str, text: str):
    asked = request("ab.test", "TXT")
    plugin = template(
        f'template IN TXT test {{\n match ^(?P<first>.)(.)\n answer "{{{{ .Name }}}} TXT \\"{expression}\\""\n}}'
    )
    (found,) = answers_of(asked, await plugin.serve(asked, behind))
    assert found.rdata[1:].decode() == text


async def test_class_and_type_of_a_question_for_any_are_the_templates_own():
    asked = request("a.test", "ANY")
    plugin = template('template IN TXT {\n answer "{{ .Name }} 60 TXT {{ .Class }} {{ .Type }}"\n}')
    assert answers_of(asked, await plugin.serve(asked, behind))[0].rdata == b"\2IN\3TXT"


async def test_records_of_another_class():
    corefile = '. {\n chaos\n template CH TXT x.test {\n answer "{{ .Name }} 60 CH TXT \\"test\\""\n }\n}'
    reply = await Asker(corefile).ask("x.test.", "TXT", "CH")
    assert lines(reply) == ['x.test. 60 CH TXT "test"']


@pytest.mark.parametrize("edns", [False, True])
async def test_an_extended_error_goes_to_all_clients_with_do_set(edns: bool):
    corefile = ". {\n template IN A {\n rcode NXDOMAIN\n ederror 15 blocked\n }\n}"
    reply = await Asker(corefile).ask("x.test.", edns=edns)
    assert [(option.otype, option.code, option.text) for option in reply.options] == [(15, 15, "blocked")]  # type: ignore[attr-defined]
    assert reply.ednsflags & dns.flags.DO
    assert reply.rcode() == 3


# CNAME


def asked_for(rtype: str, resolve: Handler) -> Request:
    plain = request("foogle.test", rtype)
    return Request(plain.query, plain.client, plain.stream, resolve)


CNAME = 'template IN ANY foogle.test {\n answer "foogle.test 60 IN CNAME google.test"\n}'


@pytest.mark.parametrize(("rtype", "is_followed"), [("A", True), ("AAAA", True), ("MX", False), ("CNAME", False)])
async def test_a_cname_is_followed_through_the_server_where_addresses_are_wanted(rtype: str, is_followed: bool):
    questions: list[tuple[bytes, int, int]] = []
    target = names.from_text("google.test")

    async def resolve(asked: Request) -> Reply:
        questions.append((asked.query.qname, asked.query.qtype, asked.depth))
        reply = await answering(Record(target, RRType.A, 5, b"\xc0\0\2\1"))(asked)
        return Reply(body=reply.body, truncated=True)

    asked = asked_for(rtype, resolve)
    reply = await template(CNAME).serve(asked, behind)
    found = [(seen.owner, seen.rtype) for seen in answers_of(asked, reply)]
    cname = (names.from_text("foogle.test"), RRType.CNAME)
    assert found == ([cname, (target, RRType.A)] if is_followed else [cname])
    assert [question[0] for question in questions] == ([target] if is_followed else [])
    assert reply.truncated is is_followed


async def test_a_cname_to_what_nobody_answers_stands_alone():
    async def silent(_: Request) -> Reply:
        raise Dropped

    asked = asked_for("A", silent)
    assert len(answers_of(asked, await template(CNAME).serve(asked, behind))) == 1


async def test_cnames_that_lead_in_a_circle_come_to_an_end():
    reply = await Asker('. {\n template IN A {\n answer "{{ .Name }} 60 IN CNAME x{{ .Name }}"\n }\n}').ask("a.test.")
    assert 2 <= len(lines(reply)) <= 10


# What goes wrong


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{{ .Name }} 60 IN TXT {{ index .Match 2 }}",
         'template: answer:1:25: executing "answer" at <index .Match 2>: error calling index: index out of range: 2'),
        ("{{ .Foo }}",
         'template: answer:1:3: executing "answer" at <.Foo>: '
         "can't evaluate field Foo in type *template.templateData"),
        ("{{ .Name }}", 'dns: no type: "a.test."'),
        ("{{ .Name }} 60 IN A 192.0.2", 'dns: bad address "192.0.2": "a.test. 60 IN A 192.0.2"'),
        ("{{ .Group.none }}", 'dns: not a TTL: "value>": "<no value>"'),
        ("{{ if false }}x{{ end }}", 'dns: no record: ""'),
    ],
)  # fmt: skip
async def test_a_record_that_comes_to_nothing_is_servfail_with_a_reason(line: str, reason: str):
    with collected() as logged:
        reply = await Asker(f". {{\n errors\n template IN A {{\n answer `{line}`\n }}\n}}".replace("`", '"')).ask(
            "a.test."
        )
    assert (reply.rcode(), reply.answer) == (2, [])
    assert logged == [f"[ERROR] plugin/errors: 2 a.test. A: {reason}"]


async def test_a_name_no_template_is_for_and_a_servfail_of_a_template_are_not_logged():
    asker = Asker(". {\n errors\n template IN A {\n match ^a\\.\n rcode SERVFAIL\n }\n}")
    with collected() as logged:
        assert [(await asker.ask(name)).rcode() for name in ("a.test.", "b.test.")] == [2, 2]
    assert logged == []


async def test_matches_and_failures_are_counted():
    surroundings = Surroundings()
    plugin = template(
        'template ANY ANY x.test {\n match ^a\\. ^b\\. ^c\\.\n'
        ' answer "{{ if eq (index .Match 0) `b.` }}{{ .Name.x }}{{ else }}{{ .Name }} {{ index .Match 0 }}'
        '{{ end }}"\n}',
        surroundings,
    )  # fmt: skip
    for name in ("a.x.test", "b.x.test", "d.x.test"):
        with pytest.raises(ServeError):
            await plugin.serve(request(name, "TYPE65280"), behind)
    labels = ("dns://:53", "x.test.", "", "IN", "")
    printed = "{{if eq (index .Match 0) `b.`}}{{.Name.x}}{{else}}{{.Name}} {{index .Match 0}}{{end}}"
    counted = {name: family.total((*labels, *more)) for name, more in (
        ("coredns_template_matches_total", ()),
        ("coredns_template_template_failures_total", ("answer", printed)),
        ("coredns_template_rr_failures_total", ("answer", printed)),
    ) if (family := surroundings.metrics.families[name])}  # fmt: skip
    assert list(counted.values()) == [2, 1, 1]
