"""dnsmasq."""

from __future__ import annotations

from bench.peers.peer import ADDRESS, Peer, first_line

MAX_CACHE = 10_000  # entries; dnsmasq takes no more


class Dnsmasq(Peer):
    """dnsmasq: the cluster's addresses as a hosts file, everything else forwarded. It has no SRV records of it."""

    name = "dnsmasq"
    program = "dnsmasq"
    package = "apt-get install dnsmasq-base"
    forwards = True
    reads = "hosts"
    uses_workers = False

    @classmethod
    def version(cls) -> str:
        """The first line of `dnsmasq --version`."""
        return first_line([cls.find(), "--version"])

    def command(self) -> list[str]:
        """`dnsmasq --keep-in-foreground --conf-file=FILE`."""
        local = "".join(f"local=/{zone.rstrip('.')}/\n" for zone in self.files.zones)
        upstream = self.files.upstream_port
        config = f"""\
port={self.port}
listen-address={ADDRESS}
bind-interfaces
no-resolv
no-hosts
no-poll
{f"addn-hosts={self.files.hosts.resolve()}" if self.files.hosts is not None else ""}
local-ttl=5
cache-size={MAX_CACHE}
dns-forward-max=10000
user=
log-facility=-
pid-file=
{local}{f"server={ADDRESS}#{upstream}" if upstream is not None else ""}
"""
        return [self.find(), "--keep-in-foreground", f"--conf-file={self._write('dnsmasq.conf', config)}"]
