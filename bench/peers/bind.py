"""BIND."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.peers.peer import ADDRESS, Peer, first_line

MAX_RRSET = 60_000  # octets of data; BIND refuses the whole zone for the sake of one larger set ("ran out of space")


class Bind(Peer):
    """BIND with a thread a core: the cluster as primary zones, everything else forwarded and kept in its cache."""

    name = "bind"
    program = "named"
    package = "apt-get install bind9"
    forwards = True

    @classmethod
    def version(cls) -> str:
        """What `named -v` prints."""
        return first_line([cls.find(), "-v"])

    def command(self) -> list[str]:
        """`named -g -n N -c FILE`."""
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "{self._loadable(zone, path)}"; notify no; }};\n'
            for zone, path in self.files.zones.items()
        )
        upstream = self.files.upstream_port
        forward = "" if upstream is None else f"forward only; forwarders {{ {ADDRESS} port {upstream}; }};"
        config = f"""\
options {{
    directory "{self.folder}";
    pid-file none;
    session-keyfile none;
    listen-on port {self.port} {{ {ADDRESS}; }};
    listen-on-v6 {{ none; }};
    recursion {"no" if upstream is None else "yes"};
    {forward}
    dnssec-validation no;
    minimal-responses yes;
    empty-zones-enable no;
    check-names primary ignore;
    max-cache-size 512m;
    max-records-per-type 0;
    recursive-clients 10000;
    tcp-clients 1000;
}};
controls {{ }};
logging {{ category default {{ default_stderr; }}; }};
{zones}"""
        return [self.find(), "-g", "-n", str(self.workers), "-c", str(self._write("named.conf", config))]

    def _loadable(self, zone: str, path: Path) -> Path:
        """A zone file without the sets that BIND has no room for: it is left out of the loads that ask for them."""
        lines = [line.split(" ", 2) for line in path.read_text().splitlines()]
        sizes: Counter[tuple[str, str]] = Counter()
        for line in lines:
            if len(line) == 3:
                sizes[line[0], line[1]] += len(line[2])
        kept = [" ".join(line) for line in lines if len(line) != 3 or sizes[line[0], line[1]] <= MAX_RRSET]
        return self._write(f"{zone.strip('.')}.zone", "\n".join(kept) + "\n").resolve()
