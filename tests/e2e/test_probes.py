"""The probes of RFC 8906 with dig, over UDP and TCP, IPv4 and IPv6."""

from __future__ import annotations

import re

import pytest

from tests.e2e.dig import dig_all
from tests.e2e.probes import EXTRA_PROBES, PROBES, TYPE_PROBES, Probe
from tests.e2e.targets import FAMILIES, Target, loopback_target
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.zone import FakeZone, Fault
from tests.harness.exchange import TRANSPORTS, UDP

ALL = (*PROBES, *TYPE_PROBES, *EXTRA_PROBES)
# Which probes find which mistake; a probe that finds nothing wrong anywhere proves nothing.
FOUND_BY = {
    Fault.COPIES_HEADER_FLAGS: {"ad": False, "ra": True, "zflag": True, "opcodeflg": True},
    Fault.ECHOES_EDNS_OPTIONS: {"ednsopt": True, "optlist": True, "ednscookie": True, "ednssubnet": True},
    Fault.ECHOES_EDNS_FLAGS: {"ednsflags": True, "do": False},
    Fault.IGNORES_EDNS_VERSION: {"edns1": True, "edns1opt": True, "edns1nsid": True, "edns1do": True},
    Fault.NXDOMAIN_FOR_TXT: {"type TXT": True, "type MX": False},
    Fault.ANSWERS_OTHER_OPCODES: {"opcode": True, "opcodeflg": True},
    Fault.SENDS_UNASKED_OPT: {"dns": True, "edns": False, "type A": True},
}


def test_there_are_31_probes_and_65_types() -> None:
    assert len(PROBES) == 31
    assert len(TYPE_PROBES) == 65


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_probe_passes(target: Target, transport: str, family: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed = run_probes(target, transport, family)
    score = [
        f"{sum(probe.name not in failed for probe in group)}/{len(group)}" for group in (PROBES, PROBES + TYPE_PROBES)
    ]
    with capsys.disabled():
        print(f"\nprobes over {transport} and {family}: {' and '.join(score)}", end=" ")  # noqa: T201
    assert not failed


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_careful_server_passes(transport: str) -> None:
    with FakeNameServer(FakeZone()) as server:
        assert run_probes(fake_target(server), transport, "ipv4") == {}


@pytest.mark.parametrize("fault", FOUND_BY, ids=lambda fault: fault.name.lower())
def test_mistake_is_found(fault: Fault) -> None:
    with FakeNameServer(FakeZone([fault])) as server:
        failed = run_probes(fake_target(server), UDP, "ipv4")
    assert {name: name in failed for name in FOUND_BY[fault]} == FOUND_BY[fault]


def test_silence_is_found() -> None:
    with FakeNameServer(lambda *_: []) as server:
        probe = Probe("dns", ("+timeout=1",))
        (reply,) = dig_all(fake_target(server).place, fake_target(server).peer("ipv4"), [probe.query], UDP)
    assert probe.problems(reply) == ["no reply"]


def test_missing_dig_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    target = loopback_target(53, "", "")
    with pytest.raises(AssertionError, match=re.escape("dig is missing: apt-get install bind9-dnsutils")):
        dig_all(target.place, target.peer("ipv4"), [], UDP)


def run_probes(target: Target, transport: str, family: str) -> dict[str, list[str]]:
    """The probes that fail, and why."""
    replies = dig_all(target.place, target.peer(family), [probe.query for probe in ALL], transport)
    problems = {probe.name: probe.problems(reply) for probe, reply in zip(ALL, replies, strict=True)}
    return {name: found for name, found in problems.items() if found}


def fake_target(server: FakeNameServer) -> Target:
    return loopback_target(server.port, "host.test.cluster.local.", "many.cluster.local.")
