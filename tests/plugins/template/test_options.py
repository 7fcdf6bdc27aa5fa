"""`template` directives that are refused, in CoreDNS's words."""

from __future__ import annotations

import pytest

from tests.fakes.directives import refused, set_up

ARGUMENTS = "Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("head", "option", "complaint"),
    [
        ("", "", f"Corefile:2 - Error during parsing: {ARGUMENTS} 'template'"),
        ("IN", "", f"Corefile:2 - Error during parsing: {ARGUMENTS} 'IN'"),
        ("XX A", "", "Corefile:2 - Error during parsing: invalid query class XX"),
        ("in A", "", "Corefile:2 - Error during parsing: invalid query class in"),
        ("IN X", "", "Corefile:2 - Error during parsing: invalid RR class X"),
        ("IN a", "", "Corefile:2 - Error during parsing: invalid RR class a"),
        ("IN A", "bogus x", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'bogus'"),
        # These came after 1.14.7.
        ("IN A", "var x 1", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'var'"),
        ("IN A", "expr 1", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'expr'"),
        ("IN A", "match", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'match'"),
        ("IN A", "match (", "Corefile:3 - Error during parsing: could not parse regex: (, "
         "error parsing regexp: missing closing ): `(`"),
        ("IN A", "match " + "a" * 10_001, "Corefile:3 - Error during parsing: regex pattern too long: 10001 > 10000"),
        ("IN A", "answer", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'answer'"),
        ("IN A", "additional", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'additional'"),
        ("IN A", 'answer "{{ .Name"', "Corefile:3 - Error during parsing: could not compile template: {{ .Name, "
         "template: answer:1: unclosed action"),
        ("IN A", 'authority "{{ nope }}"', "Corefile:3 - Error during parsing: could not compile template: {{ nope }}, "
         'template: authority:1: function "nope" not defined'),
        ("IN A", "rcode", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'rcode'"),
        ("IN A", "rcode nxdomain", "Corefile:3 - Error during parsing: unknown rcode nxdomain"),
        ("IN A", "ederror", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'ederror'"),
        ("IN A", "ederror 1 a b", f"Corefile:3 - Error during parsing: {ARGUMENTS} 'b'"),
        ("IN A", "ederror x", "Corefile:3 - Error during parsing: error parsing extended DNS error code x, "
         'strconv.ParseUint: parsing "x": invalid syntax'),
    ],
)  # fmt: skip
def test_refused(head: str, option: str, complaint: str):
    block = f" {{\n{option}\n}}" if option else ""
    assert refused(f"template {head}{block}") == f"plugin/template: {complaint}"


@pytest.mark.parametrize(
    "text",
    [
        "template ANY ANY",
        "template IN A {\n}",
        "template ANY ANY {\n rcode NXDOMAIN\n}",
        'template IN A {\n answer "{{ .Grup.d }}"\n}',  # found out when it is asked for
        "template IN HTTPS {\n rcode NOTAUTH\n ederror 65535\n fallthrough\n}",
        'template IN A "sp.test"',
    ],
)
def test_accepted(text: str):
    assert set_up(text) is not None
