"""The situations CoreDNS's documentation of `template` describes, with names of our own."""

from __future__ import annotations

import pytest

from tests.fakes.asking import Asker, lines

BEHIND = 'template IN ANY {\n answer "behind. 1 IN A 198.51.100.1"\n}'
SOA_AND_NS = """lab.shop.example. {
    template IN SOA {
        match ^lab\\.shop\\.example\\.$
        answer "{{ .Zone }} 3600 IN SOA ns1.{{ .Zone }} admin.{{ .Zone }} (1 60 120 86400 3600)"
        fallthrough
    }
    template IN SOA {
        authority "{{ .Zone }} 3600 IN SOA host. lab.shop.example. (1 60 120 86400 3600)"
    }
    template IN NS {
        match ^lab\\.shop\\.example\\.$
        answer "{{ .Zone }} 900 IN NS ns1.lab.shop.example."
        answer "{{ .Zone }} 900 IN NS ns2.lab.shop.example."
        fallthrough
    }
    template IN NS {
        authority "{{ .Zone }} 3600 IN SOA host. lab.shop.example. (1 60 120 86400 3600)"
    }
}"""


@pytest.mark.parametrize(
    ("name", "rtype", "answers", "authorities"),
    [
        ("lab.shop.example.", "SOA", ["SOA ns1.lab.shop.example. admin.lab.shop.example. 1 60 120 86400 3600"], 0),
        ("x.lab.shop.example.", "SOA", [], 1),
        ("lab.shop.example.", "NS", ["NS ns1.lab.shop.example.", "NS ns2.lab.shop.example."], 0),
        ("x.lab.shop.example.", "NS", [], 1),
    ],
)
async def test_soa_and_ns_of_a_dynamic_domain(name: str, rtype: str, answers: list[str], authorities: int):
    reply = await Asker(SOA_AND_NS).ask(name, rtype)
    assert [line.split(" IN ")[1] for line in lines(reply)] == answers
    assert len(lines(reply, 2)) == authorities


async def test_everything_is_nxdomain():
    assert await Asker(". {\n template ANY ANY {\n rcode NXDOMAIN\n }\n}").answers("a.test.", "HINFO") == ["NXDOMAIN"]


async def test_invalid_is_nxdomain_with_a_ttl_and_a_reason():
    corefile = f""". {{
        template ANY ANY invalid {{
          rcode NXDOMAIN
          authority "invalid. 60 {{{{ .Class }}}} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"
          ederror 21 "Blocked according to RFC2606"
        }}
        {BEHIND}
    }}"""
    reply = await Asker(corefile).ask("x.invalid.", "MX", edns=True)
    assert reply.rcode() == 3
    assert lines(reply, 2) == ["invalid. 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60"]
    assert [option.to_text() for option in reply.options] == ["EDE 21 (Not Supported): Blocked according to RFC2606"]


@pytest.mark.parametrize(
    "block",
    [
        """template IN ANY shop.example.dc1.shop.example {
            rcode NXDOMAIN
            authority "{{ .Zone }} 60 IN SOA ns.shop.example hostmaster.shop.example (1 60 60 60 60)"
        }""",
        """template IN ANY shop.example {
            match "shop\\.example\\.(dc1\\.shop\\.example\\.)$"
            rcode NXDOMAIN
            authority "{{ index .Match 1 }} 60 SOA ns.{{ index .Match 1 }} hm.{{ index .Match 1 }} (1 60 60 60 60)"
            fallthrough
        }""",
    ],
)  # fmt: skip
async def test_search_domains_that_were_appended_once_too_often(block: str):
    asker = Asker(f". {{\n{block}\n{BEHIND}\n}}")
    assert await asker.answers("www.shop.example.dc1.shop.example.") == ["NXDOMAIN"]
    assert await asker.answers("www.dc1.shop.example.") == ["behind. 1 IN A 198.51.100.1"]


IPS = """. {
    template IN A example {
      match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
      answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
      fallthrough
    }
    template IN A example {
      match "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$"
      answer "{{ .Name }} A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}"
      fallthrough
    }
    template IN A example {
      match "^ip_(?P<a>10)_(?P<b>[0-9]*)_(?P<c>[0-9]*)_(?P<d>[0-9]*)[.]dc[.]example[.]$"
      match "^(?P<a>[0-9]*)[.](?P<b>[0-9]*)[.](?P<c>[0-9]*)[.](?P<d>[0-9]*)[.]ext[.]example[.]$"
      answer "{{ .Name }} 60 IN A {{ .Group.a}}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
      fallthrough
    }
    template IN MX example {
      match ^ip-10-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$
      answer "{{ .Name }} 60 IN MX 10 {{ .Name }}"
      additional "{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
      authority "example. 60 IN NS ns0.example."
      fallthrough
    }
    template IN PTR in-addr.arpa {
      match ^(?P<d>[0-9]*)[.](?P<c>[0-9]*)[.](?P<b>[0-9]*)[.](?P<a>[0-9]*)[.]in-addr[.]arpa[.]$
      answer "{{ .Name }} 60 IN PTR ip-{{ .Group.a }}-{{ .Group.b }}-{{ .Group.c }}-{{ .Group.d }}.example."
    }
BEHIND
}""".replace("BEHIND", BEHIND)


@pytest.mark.parametrize(
    ("name", "rtype", "answers"),
    [
        ("ip-192-0-2-1.example.", "A", ["ip-192-0-2-1.example. 60 IN A 192.0.2.1"]),
        ("x.ip-192-0-2-1.example.", "A", ["x.ip-192-0-2-1.example. 60 IN A 192.0.2.1"]),
        ("ip0a7b7b7b.example.", "A", ["ip0a7b7b7b.example. 3600 IN A 10.123.123.123"]),
        ("ip_10_1_2_3.dc.example.", "A", ["ip_10_1_2_3.dc.example. 60 IN A 10.1.2.3"]),
        ("192.0.2.7.ext.example.", "A", ["192.0.2.7.ext.example. 60 IN A 192.0.2.7"]),
        ("ip-10-1-2-3.example.", "MX", ["ip-10-1-2-3.example. 60 IN MX 10 ip-10-1-2-3.example."]),
        ("3.2.1.10.in-addr.arpa.", "PTR", ["3.2.1.10.in-addr.arpa. 60 IN PTR ip-10-1-2-3.example."]),
        ("other.example.", "A", ["behind. 1 IN A 198.51.100.1"]),
        ("other.in-addr.arpa.", "PTR", ["SERVFAIL"]),
        ("ip-192-0-2-999.example.", "A", ["SERVFAIL"]),
    ],
)
async def test_addresses_in_names(name: str, rtype: str, answers: list[str]):
    assert await Asker(IPS).answers(name, rtype) == answers


async def test_a_made_up_cname():
    corefile = """. {
      template IN ANY foogle.test {
        match "^foogle\\.test\\.$"
        answer "foogle.test 60 IN CNAME google.test"
        fallthrough
      }
      template IN A google.test {
        answer "{{ .Name }} 5 IN A 192.0.2.1"
      }
    }"""
    assert await Asker(corefile).answers("foogle.test.") == [
        "foogle.test. 60 IN CNAME google.test.",
        "google.test. 5 IN A 192.0.2.1",
    ]
