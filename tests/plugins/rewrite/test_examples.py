"""The situations CoreDNS's documentation of `rewrite` describes, with names of our own."""

from __future__ import annotations

import pytest

from tests.fakes.asking import Asker, lines

# Answers with what it is asked, whatever that is.
ECHO = """
    template IN A {
        answer "{{ .Name }} 0 IN A 10.10.10.10"
    }
    template IN PTR {
        answer "{{ .Name }} 60 IN PTR ftp-eu-1.service.consul."
    }
"""


@pytest.mark.parametrize(
    ("rules", "asked", "answered"),
    [
        (
            "rewrite name substring service.eu-1.shop.example service.eu-1.consul",
            "ftp.service.eu-1.shop.example.", "ftp.service.eu-1.consul. 0 IN A 10.10.10.10",
        ),
        (
            r"rewrite name regex (.*)-(eu-1)\.shop\.example {1}.service.{2}.consul",
            "ftp-eu-1.shop.example.", "ftp.service.eu-1.consul. 0 IN A 10.10.10.10",
        ),
        (
            "rewrite name suffix .shoop.example. .shop.example.",
            "www.shoop.example.", "www.shop.example. 0 IN A 10.10.10.10",
        ),
        (
            "rewrite stop {\n name suffix .shop.example .service.consul answer auto\n}",
            "ftp.shop.example.", "ftp.shop.example. 0 IN A 10.10.10.10",
        ),
        (
            "rewrite stop {\n name regex (.*)-(eu-1)\\.shop\\.example {1}.service.{2}.consul\n"
            " answer name (.*)\\.service\\.(eu-1)\\.consul {1}-{2}.shop.example\n}",
            "ftp-eu-1.shop.example.", "ftp-eu-1.shop.example. 0 IN A 10.10.10.10",
        ),
        (
            r"rewrite stop name regex (.*)-(eu-1)\.shop\.example {1}.service.{2}.consul "
            r"answer name (.*)\.service\.(eu-1)\.consul {1}-{2}.shop.example",
            "ftp-eu-1.shop.example.", "ftp-eu-1.shop.example. 0 IN A 10.10.10.10",
        ),
        ("rewrite name exact red.example blue.example", "red.example.", "red.example. 0 IN A 10.10.10.10"),
        (
            "rewrite continue {\n ttl regex (.*)\\.shop\\.example 15\n}",
            "a.shop.example.", "a.shop.example. 15 IN A 10.10.10.10",
        ),
        ("rewrite ttl shop.example. 30-300", "shop.example.", "shop.example. 30 IN A 10.10.10.10"),
        (
            "rewrite continue name suffix .a.example .b.example answer auto\n"
            "rewrite continue name suffix .b.example .c.example answer auto",
            "x.a.example.", "x.a.example. 0 IN A 10.10.10.10",
        ),
    ],
)  # fmt: skip
async def test_addresses(rules: str, asked: str, answered: str):
    assert await Asker(f". {{\n{rules}\n{ECHO}}}").answers(asked) == [answered]


async def test_values_of_ptr_records():
    rules = (
        "rewrite stop {\n name suffix .arpa .arpa\n answer name auto\n"
        " answer value (.*)\\.service\\.consul\\. {1}.shop.example.\n}"
    )
    assert await Asker(f". {{\n{rules}\n{ECHO}}}").answers("30.30.30.10.in-addr.arpa.", "PTR") == [
        "30.30.30.10.in-addr.arpa. 60 IN PTR ftp-eu-1.shop.example."
    ]


@pytest.mark.parametrize("rcodes", ["SERVFAIL NOERROR", "2 0"])
async def test_failures_made_empty_answers(rcodes: str):
    rules = f"rewrite continue {{\n rcode regex (.*)\\.shop\\.example {rcodes}\n}}"
    asker = Asker(f". {{\n{rules}\n template IN ANY {{\n rcode SERVFAIL\n }}\n}}")
    assert [(await asker.ask(name)).rcode() for name in ("a.shop.example.", "a.other.example.")] == [0, 2]


async def test_a_cluster_name_under_another_domain():
    rules = "rewrite name suffix .corp.example .prod.svc.cluster.local answer auto"
    backend = 'template IN A prod.svc.cluster.local {\n answer "{{ .Name }} 5 IN A 10.96.0.7"\n}'
    reply = await Asker(f". {{\n{rules}\n{backend}\n}}").ask("web.corp.example.")
    assert lines(reply) == ["web.corp.example. 5 IN A 10.96.0.7"]
