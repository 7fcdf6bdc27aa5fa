"""Unbound."""

from __future__ import annotations

from bench.peers.peer import ADDRESS, Peer, first_line


class Unbound(Peer):
    """Unbound with a thread a core: the cluster as authoritative zones, all else forwarded and kept in its cache."""

    name = "unbound"
    program = "unbound"
    package = "apt-get install unbound"
    forwards = True

    @classmethod
    def version(cls) -> str:
        """The first line of `unbound -V`."""
        return first_line([cls.find(), "-V"])

    def command(self) -> list[str]:
        """`unbound -d -p -c FILE`."""
        zones = "".join(
            f'auth-zone:\n    name: "{zone}"\n    zonefile: "{path.resolve()}"\n'
            "    for-downstream: yes\n    for-upstream: no\n    fallback-enabled: no\n"
            for zone, path in self.files.zones.items()
        )
        # Private networks have zones of their own in Unbound, which would hide those of the cluster.
        own = "".join(f'    local-zone: "{zone}" transparent\n' for zone in self.files.zones)
        own += '    local-zone: "10.in-addr.arpa." nodefault\n    local-zone: "test." nodefault\n'
        forward = ""
        if self.files.upstream_port is not None:
            forward = f'forward-zone:\n    name: "."\n    forward-addr: {ADDRESS}@{self.files.upstream_port}\n'
        config = f"""\
server:
    interface: {ADDRESS}@{self.port}
    num-threads: {self.workers}
    so-reuseport: yes
    outgoing-range: 8192
    incoming-num-tcp: 200
    num-queries-per-thread: 4096
    msg-cache-size: 128m
    rrset-cache-size: 256m
    minimal-responses: yes
    prefetch: no
    do-not-query-localhost: no
    module-config: "iterator"
    do-ip6: no
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: "{self.folder}/unbound.pid"
    use-syslog: no
    verbosity: 0
{own}remote-control:
    control-enable: no
{zones}{forward}"""
        return [self.find(), "-d", "-p", "-c", str(self._write("unbound.conf", config))]
