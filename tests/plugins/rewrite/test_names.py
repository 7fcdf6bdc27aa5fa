"""`rewrite name`: what the chain is asked, and which names the client sees in the reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.plugins.plugin import Handler, Request
from kdns.plugins.rewrite.rewriting import Rewrite
from tests.fakes.asking import Asker, lines
from tests.fakes.directives import answering, answers_of, failing, request, set_up

ADDRESS = b"\xc0\0\2\1"


def rewrite(*rules: str) -> Rewrite:
    plugin = set_up("\n".join(f"rewrite {rule}" for rule in rules))
    assert isinstance(plugin, Rewrite)
    return plugin


def record(owner: str, rtype: int = RRType.A, rdata: bytes = ADDRESS) -> Record:
    return Record(names.from_text(owner), rtype, 60, rdata)


class Backend:
    """A chain behind the plugin: notes what it is asked, and answers with an address of that name or with `records`."""

    def __init__(self, *records: Record) -> None:
        self.asked: list[Request] = []
        self._records = records

    async def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        records = self._records or (Record(request.query.qname, RRType.A, 60, ADDRESS),)
        return await answering(*records)(request)


async def rewritten(rule: str, name: str) -> str:
    """What the chain is asked where the client asks for `name`."""
    backend = Backend()
    await rewrite(rule).serve(request(name), backend)
    return names.to_text(backend.asked[0].query.qname)


async def owners(rule: str, name: str, *records: Record) -> list[str]:
    """The owners and targets the client sees."""
    asked, found = request(name), []
    for seen in answers_of(asked, await rewrite(rule).serve(asked, Backend(*records))):
        target = {RRType.A: "", RRType.TXT: "", RRType.MX: 2, RRType.SRV: 6}.get(seen.rtype, 0)
        names_of = names.to_text(seen.owner)
        found.append(names_of if target == "" else f"{names_of} {names.to_text(seen.rdata[int(target) :])}")
    return found


@pytest.mark.parametrize(
    ("rule", "name", "becomes"),
    [
        ("name a.test b.test", "a.test.", "b.test."),
        ("name exact A.Test. B.TEST", "a.test.", "b.test."),
        ("name exact a.test b.test", "x.a.test.", "x.a.test."),
        ("name prefix pre. post.", "pre.test.", "post.test."),
        ("name prefix pre- post-", "pre-x.test.", "pre-x.test."),  # the pattern gets a final dot: `pre-.`
        ("name suffix .a.test .b.test", "x.y.a.test.", "x.y.b.test."),
        ("name suffix .a.test .b.test", "a.test.", "a.test."),
        ("name suffix a.test b.test", "xa.test.", "xb.test."),
        ("name substring mid.dle swapped.up", "a.mid.dle.", "a.swapped.up."),
        ("name substring a. b.", "a.a.test.", "b.b.test."),
        (r"name regex (.*)-(us|eu)\.re\.test {1}.{2}.up.test", "web-us.re.test.", "web.us.up.test."),
        (r"name regex (.*)-(us|eu)\.re\.test {1}.{2}.up.test", "web-asia.re.test.", "web-asia.re.test."),
        (r"name regex (.*)\.all\.test {0}x.up.test", "a.all.test.", "a.all.testx.up.test."),
        (r"NAME REGEX ^(\w+)\.(.+)\.$ {1}-{2}", "a.test.", "a-test."),
    ],
)
async def test_the_chain_is_asked_for_another_name(rule: str, name: str, becomes: str):
    assert await rewritten(rule, name) == becomes


async def test_letter_case_of_the_question_means_nothing_and_comes_back_in_the_answer():
    asked = request("plain.test")
    spelled = b"\x05PLAIN\x04test\0"
    asked = Request(asked.query.with_question(spelled, RRType.A), asked.client, False, asked.resolve)
    reply = await rewrite("name plain.test up.test").serve(asked, Backend())
    assert [seen.owner for seen in answers_of(asked, reply)] == [spelled]


async def test_the_first_rule_that_applies_is_the_last_one():
    backend = Backend()
    await rewrite("name a.test b.test", "name b.test c.test").serve(request("a.test"), backend)
    assert names.to_text(backend.asked[0].query.qname) == "b.test."


async def test_continue_hands_on_to_the_next_rule_and_the_answer_goes_back_through_both():
    backend, asked = Backend(), request("a.test")
    plugin = rewrite("continue name a.test b.test", "continue name b.test c.test", "name exact x.test y.test")
    reply = await plugin.serve(asked, backend)
    assert names.to_text(backend.asked[0].query.qname) == "c.test."
    assert answers_of(asked, reply) == [record("a.test")]


async def test_a_question_no_rule_is_for_is_handed_on_as_it_is():
    backend, asked = Backend(), request("other.test")
    await rewrite("name a.test b.test", r"name regex ^x\. y.").serve(asked, backend)
    assert backend.asked == [asked]


async def test_words_in_a_block_are_one_rule():
    plugin = set_up(
        "rewrite stop {\n name regex (.*)\\.a\\.test\n {1}.b.test\n answer name\n (.*)\\.b\\.test {1}.a.test\n}"
    )
    asked = request("x.a.test")
    assert answers_of(asked, await plugin.serve(asked, Backend())) == [record("x.a.test")]


@pytest.mark.parametrize(
    ("rule", "name", "records", "seen"),
    [
        # An exact rule turns names back by itself, targets and names below included.
        ("name a.test b.test", "a.test", [record("b.test")], ["a.test."]),
        (
            "name a.test b.test", "a.test",
            [record("b.test", RRType.CNAME, names.from_text("x.b.test")), record("x.b.test")],
            ["a.test. x.a.test.", "x.a.test."],
        ),
        # Others do only where they are told to.
        ("name suffix .a.test .b.test", "x.a.test", [record("x.b.test")], ["x.b.test."]),
        ("name suffix .a.test .b.test answer auto", "x.a.test", [record("x.b.test")], ["x.a.test."]),
        (
            "name suffix .a.test .b.test answer auto", "x.a.test",
            [record("x.b.test", RRType.CNAME, names.from_text("y.b.test")), record("y.b.test")],
            ["x.a.test. y.a.test.", "y.a.test."],
        ),
        (
            r"name regex (.*)\.a\.test {1}.b.test answer auto", "x.a.test",
            [record("x.b.test", RRType.CNAME, names.from_text("y.b.test")), record("y.b.test")],
            ["x.a.test. y.b.test.", "y.b.test."],
        ),
        ("name prefix pre. post. answer auto", "pre.test", [record("post.test")], ["pre.test."]),
        ("name substring .a. .b. answer auto", "x.a.", [record("x.b.")], ["x.a."]),
        # `name` is for owners, `value` for names in the data; what follows the first `answer` may leave the word out.
        (
            r"name regex (.*)\.a\.test {1}.b.test answer name (.*)\.b\.test {1}.a.test", "x.a.test",
            [record("x.b.test", RRType.CNAME, names.from_text("y.b.test")), record("y.b.test")],
            ["x.a.test. y.b.test.", "y.a.test."],
        ),
        (
            r"name suffix .a.test .b.test answer auto value (.*)\.b\.test {1}.c.test", "x.a.test",
            [record("x.b.test", RRType.CNAME, names.from_text("y.b.test")), record("y.b.test")],
            ["x.a.test. y.c.test.", "y.a.test."],
        ),
        (
            r"name a.test b.test answer value (.*)\.b\.test {1}.c.test".replace("name a", "name exact a"), "a.test",
            [record("b.test", RRType.MX, b"\0\x0a" + names.from_text("mail.b.test"))],
            ["a.test. mail.c.test."],
        ),
        (
            r"name suffix .a.test .b.test answer value (.*)\.b\.test {1}.a.test", "_s.a.test",
            [record("_s.b.test", RRType.SRV, b"\0\1\0\2\0\x50" + names.from_text("web.b.test"))],
            ["_s.b.test. web.a.test."],
        ),
    ],
)  # fmt: skip
async def test_names_in_the_answer(rule: str, name: str, records: list[Record], seen: list[str]):
    assert await owners(rule, name, *records) == seen


@pytest.mark.parametrize(
    ("rtype", "rdata", "becomes"),
    [
        (RRType.NS, names.from_text("x.b.test"), names.from_text("x.a.test")),
        (RRType.PTR, names.from_text("x.b.test"), names.from_text("x.a.test")),
        (RRType.DNAME, names.from_text("x.b.test"), names.from_text("x.a.test")),
        (
            RRType.SOA,
            names.from_text("x.b.test") + names.from_text("root.b.test") + bytes(20),
            names.from_text("x.a.test") + names.from_text("root.b.test") + bytes(20),
        ),
        (
            RRType.NAPTR,
            b"\0\1\0\2\1u\3sip\0" + names.from_text("x.b.test"),
            b"\0\1\0\2\1u\3sip\0" + names.from_text("x.a.test"),
        ),
        (RRType.NAPTR, b"\0\1\0\2\1u", b"\0\1\0\2\1u"),  # cut short: left alone
        (RRType.TXT, b"\x08x.b.test", b"\x08x.b.test"),
    ],
)
async def test_names_in_the_data(rtype: int, rdata: bytes, becomes: bytes):
    asked = request("x.a.test")
    plugin = rewrite(r"name suffix .a.test .b.test answer value (.*)\.b\.test {1}.a.test")
    reply = await plugin.serve(asked, Backend(record("x.b.test", rtype, rdata)))
    assert answers_of(asked, reply)[0].rdata == becomes


async def test_names_in_all_sections_are_turned_back():
    corefile = """. {
        rewrite name suffix .a.test .b.test answer auto
        template IN A b.test {
            answer "{{ .Name }} 60 IN A 192.0.2.1"
            authority "b.test. 60 IN NS ns1.b.test."
            additional "ns1.b.test. 60 IN A 192.0.2.5"
        }
    }"""
    reply = await Asker(corefile).ask("x.a.test.")
    assert lines(reply) == ["x.a.test. 60 IN A 192.0.2.1"]
    assert lines(reply, 2) == ["b.test. 60 IN NS ns1.a.test."]
    assert lines(reply, 3) == ["ns1.a.test. 60 IN A 192.0.2.5"]


async def test_a_name_that_would_be_too_long_stays_as_it_is():
    long = ".".join(["x" * 60] * 4)
    assert await owners(
        "name a-name-that-is-long.test b.test", "a-name-that-is-long.test", record(f"{long}.b.test")
    ) == [f"{long}.b.test."]


@pytest.mark.parametrize(
    ("rule", "name", "met"),
    [
        ("name a.test bad..name", "a.test", "bad..name."),
        ("name suffix .a.test ." + "x" * 64, "y.a.test", "y." + "x" * 64 + "."),
        (r"name regex (.*)\.a\.test {1}..b.test", "y.a.test", "y..b.test."),
    ],
)
async def test_a_name_that_is_none_is_servfail_with_a_reason(rule: str, name: str, met: str):
    with pytest.raises(ServeError) as caught:
        await rewrite(rule).serve(request(name), Backend())
    assert (str(caught.value), caught.value.rcode) == (f"invalid name after rewrite: {met}", 2)


async def test_a_failure_behind_the_plugin_goes_on_as_it_is():
    with pytest.raises(ServeError, match=r"^no route$") as caught:
        await rewrite("name a.test b.test").serve(request("a.test"), failing("no route", 5))
    assert caught.value.rcode == 5


async def test_an_answer_goes_back_only_as_far_as_the_rules_turn_names_back():
    asked = request("x.a.test")
    plugin = rewrite("continue name suffix .a.test .b.test", "name exact x.b.test x.c.test")
    assert answers_of(asked, await plugin.serve(asked, Backend())) == [record("x.b.test")]


@pytest.mark.parametrize(
    ("rule", "owner"),
    [
        ("name suffix .a.test .b.test", "x.b.test"),
        ("name suffix .a.test .b.other", "x.b.other"),
        ("name suffix .a.test .test", "x.test"),
        ("name suffix .a.test .a.a.test", "x.a.a.test"),
        (r"name regex ^x\.(.*)\.$ {1}", "a.test"),
        (r"name regex ^x\.(.*)\.$ {1} answer name ^(.*)\.$ y.{1}", "y.a.test"),
    ],
)
async def test_addresses_of_another_owner_can_each_be_the_first(rule: str, owner: str):
    asked = request("x.a.test")
    addresses = [record("question", rdata=bytes([10, 0, 0, n])) for n in range(5)]

    async def answer(inner: Request) -> Reply:
        return await answering(*[seen._replace(owner=inner.query.qname) for seen in addresses])(inner)

    reply = await rewrite(rule).serve(asked, answer)
    assert answers_of(asked, reply) == [seen._replace(owner=names.from_text(owner)) for seen in addresses]
    assert reply.body.record_length * 5 == len(reply.body.octets)


async def test_addresses_of_the_question_keep_their_rotation():
    asked = request("a.test")
    addresses = [record("b.test", rdata=bytes([10, 0, 0, n])) for n in range(5)]
    reply = await rewrite("name a.test b.test").serve(asked, Backend(*addresses))
    assert (reply.body.record_length, reply.body.rotate_from) == (16, 0)
    assert answers_of(asked, reply) == [seen._replace(owner=asked.query.qname) for seen in addresses]


async def test_odd_octets_in_a_name_go_through_rules_unharmed():
    backend = Backend()
    name = b"\x05\xff.\x00\\!\x01a\x04test\0"
    asked = request("a.test")
    asked = Request(asked.query.with_question(name, RRType.A), asked.client, False, asked.resolve)
    await rewrite("name suffix .a.test .b.test").serve(asked, backend)
    assert backend.asked[0].query.qname == b"\x05\xff.\x00\\!\x01b\x04test\0"


labels = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@given(labels, labels)
async def test_whatever_is_asked_and_answered_there_is_a_reply_to_the_question(asked_labels, answer_labels):
    plugin = rewrite(
        "continue name substring e. x.", r"continue name regex ^(.)(.*)$ {2}{1} answer name ^(.)(.*)$ {2}{1}",
        "continue name prefix a b answer auto", "name suffix . .test. answer auto",
    )  # fmt: skip
    name, owner = names.from_labels(asked_labels), names.from_labels(answer_labels)
    asked = request("a.test")
    asked = Request(asked.query.with_question(name, RRType.CNAME), asked.client, False, asked.resolve)
    handler: Handler = Backend(Record(owner, RRType.CNAME, 60, owner))
    try:
        reply = await plugin.serve(asked, handler)
    except ServeError as error:
        assert str(error).startswith("invalid name after rewrite: ")  # noqa: PT017
        return
    assert len(answers_of(asked, reply)) == 1


@pytest.mark.parametrize("rule", ["name suffix .a.test .b.test", r"name regex ^(.*)\.a\.test\.$ {1}.b.test"])
async def test_a_dot_within_a_label_does_not_begin_an_ending(rule: str):
    """Else names below another name than `a.test` would have to be slow."""
    backend = Backend()
    asked = request("a.test")
    asked = Request(asked.query.with_question(b"\x03x.a\x04test\0", RRType.A), asked.client, False, asked.resolve)
    await rewrite(rule).serve(asked, backend)
    assert backend.asked == [asked]
