"""Where servers run: namespaces are apart, and the loopback moves ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.places import Loopback, Namespace, NamespaceError, open_namespace, with_files
from tests.harness.processes import kill_all, processes_of, wait_gone
from tests.harness.waiting import wait_until

SLEEPER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = open_namespace()
    yield made
    made.close()


def test_namespace_has_ports_of_its_own(namespace: Namespace) -> None:
    with namespace.run(lambda: socket.create_server(("127.0.0.1", 53))), socket.socket() as outside:
        assert outside.connect_ex(("127.0.0.1", 53)) != 0
        with namespace.run(lambda: socket.create_connection(("127.0.0.1", 53))):
            pass


@pytest.mark.parametrize("address", ["10.244.1.53", "fd00:10:244::53"])
def test_added_address_can_be_used_at_once(namespace: Namespace, address: str) -> None:
    namespace.add_address(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.run(lambda: socket.create_server((address, 53), family=family)):
        pass


def test_error_of_a_job_is_raised_to_who_asked(namespace: Namespace) -> None:
    with pytest.raises(ZeroDivisionError):
        namespace.run(lambda: 1 // 0)


def test_processes_of_a_namespace_are_found_and_killed(namespace: Namespace) -> None:
    with namespace.run(
        lambda: subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, start_new_session=True)
    ) as parent:
        wait_until(lambda: len(processes_of(parent.pid, namespace.namespace)) == 2, "parent and child")
        other_session = -1
        assert len(processes_of(other_session, namespace.namespace)) == 2
        assert len(kill_all(parent.pid, namespace.namespace)) == 2
        parent.wait()
    wait_gone(parent.pid, namespace.namespace)


def test_command_sees_other_files(tmp_path: Path, namespace: Namespace) -> None:
    (tmp_path / "hosts").write_text("192.0.2.1 elsewhere\n")
    argv = with_files(["cat", "/etc/hosts"], {"/etc/hosts": tmp_path / "hosts"})
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "192.0.2.1 elsewhere\n"
    assert "elsewhere" not in Path("/etc/hosts").read_text()


@pytest.mark.parametrize("line", ["a.test:53, b.test:53 {", ".:53{", "d.test:53"])
def test_loopback_moves_port_53_of_a_key(line: str) -> None:
    place = Loopback()
    assert place.with_own_ports(f"{line}\n") == f"{line}\n".replace(":53", f":{place.dns_port}")


@pytest.mark.parametrize("line", ["    forward . 192.0.2.1:53", "c.test:5300 {", "\tbind ::53", "}"])
def test_loopback_leaves_the_rest_of_a_corefile(line: str) -> None:
    assert Loopback().with_own_ports(f"{line}\n") == f"{line}\n"


def test_loopback_says_why_it_has_no_other_address() -> None:
    with pytest.raises(NamespaceError, match=r"10\.244\.1\.53 cannot be added outside a network namespace"):
        Loopback().add_address("10.244.1.53")


def test_deadline_says_what_was_awaited() -> None:
    with pytest.raises(AssertionError, match="after 0 s, still not: rain"):
        wait_until(lambda: False, "rain", 0.0)
