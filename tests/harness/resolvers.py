"""Name servers of other makers, as upstreams: each serves one small zone on a port of the loopback, where installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message

from tests.harness.exchange import TRANSPORTS, Peer, ask
from tests.harness.places import free_port
from tests.harness.waiting import wait_until

START_SECONDS = 10.0
MANY = 100  # addresses of one name: more than a datagram holds, and as many as BIND allows
ZONE = "real.test."
SIGNATURE = "A 13 3 300 20400101000000 20200101000000 4242 real.test. " + "A" * 86 + "=="
RECORDS = (
    "real.test. 300 IN SOA ns.real.test. root.real.test. 1 7200 1800 86400 120",
    "real.test. 300 IN NS ns.real.test.",
    "ns.real.test. 300 IN A 192.0.2.53",
    "www.real.test. 300 IN A 192.0.2.1",
    "www.real.test. 300 IN AAAA 2001:db8::1",
    "alias.real.test. 300 IN CNAME www.real.test.",
    'text.real.test. 300 IN TXT "one" "two words"',
    "mail.real.test. 300 IN MX 10 www.real.test.",
    "_http._tcp.real.test. 300 IN SRV 0 5 80 www.real.test.",
    *(f"many.real.test. 300 IN A 10.0.{number >> 8}.{number & 255}" for number in range(MANY)),
    f"signed.real.test. 300 IN RRSIG {SIGNATURE}",
    "signed.real.test. 300 IN A 192.0.2.2",
)

Command = Callable[[Path, int], Sequence[str]]


def _unbound(folder: Path, port: int) -> Sequence[str]:
    # Signatures as local data are refused by Unbound; it resolves, and signs nothing.
    data = "\n".join(f"    local-data: '{record}'" for record in RECORDS if " RRSIG " not in record)
    (folder / "unbound.conf").write_text(
        f"""server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    use-syslog: no
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    access-control: 127.0.0.0/8 allow
    module-config: "iterator"
    local-zone: "{ZONE}" static
{data}
remote-control:
    control-enable: no
"""
    )
    return ("unbound", "-d", "-c", str(folder / "unbound.conf"))


def _knot(folder: Path, port: int) -> Sequence[str]:
    _write_zone(folder)
    (folder / "knot.conf").write_text(
        f"""server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
database:
    storage: "{folder}"
zone:
  - domain: {ZONE}
    file: "{folder}/zone"
    semantic-checks: off
    zonefile-load: whole
    journal-content: none
"""
    )
    return ("knotd", "-c", str(folder / "knot.conf"))


def _bind(folder: Path, port: int) -> Sequence[str]:
    _write_zone(folder)
    (folder / "named.conf").write_text(
        f"""options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
}};
controls {{ }};
zone "{ZONE}" {{ type primary; file "{folder}/zone"; }};
"""
    )
    return ("named", "-g", "-c", str(folder / "named.conf"))


def _dnsmasq(folder: Path, port: int) -> Sequence[str]:
    lines = ["no-resolv", "no-hosts", "local=/real.test/", "local-ttl=300", "edns-packet-max=1232", "auth-ttl=300"]
    lines += ["host-record=www.real.test,192.0.2.1,2001:db8::1", "cname=alias.real.test,www.real.test"]
    lines += ["txt-record=text.real.test,one,two words", "mx-host=mail.real.test,www.real.test,10"]
    lines += ["srv-host=_http._tcp.real.test,www.real.test,80,0,5"]
    lines += [f"host-record=many.real.test,10.0.{number >> 8}.{number & 255}" for number in range(MANY)]
    (folder / "dnsmasq.conf").write_text("\n".join(lines) + "\n")
    place = ("--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", "--pid-file=")
    return ("dnsmasq", "--keep-in-foreground", "--user=", f"--conf-file={folder}/dnsmasq.conf", *place)


RESOLVERS: dict[str, Command] = {"unbound": _unbound, "knotd": _knot, "named": _bind, "dnsmasq": _dnsmasq}


def is_installed(name: str) -> bool:
    """Whether this machine has the program."""
    return _find(name) is not None


@contextmanager
def serving(name: str, folder: Path) -> Iterator[Peer]:
    """The server, once it answers over both transports."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program, *arguments = RESOLVERS[name](folder, port)
    found = _find(program)
    assert found is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen((found, *arguments), cwd=folder, stdout=log, stderr=log, start_new_session=True)
    peer = Peer(port=port)
    query = dns.message.make_query("www.real.test.", "A").to_wire()

    def is_answering() -> bool:
        assert process.poll() is None, f"{name} ended: {(folder / 'log').read_text()[-2000:]}"
        try:
            return all(ask(peer, query, transport, 0.2) is not None for transport in TRANSPORTS)
        except OSError:
            return False

    try:
        wait_until(is_answering, lambda: f"{name} answers\n{(folder / 'log').read_text()[-2000:]}", START_SECONDS)
        yield peer
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _write_zone(folder: Path) -> None:
    (folder / "zone").write_text("\n".join(RECORDS) + "\n")


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
