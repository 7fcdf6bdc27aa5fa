"""Reloads while an API server is slow or away: what was known goes on being answered, and no table is mixed up."""

from __future__ import annotations

import os
import signal

from tests.fakes.apiserver import FakeApiServer
from tests.fakes_selftest.objects import namespace, service
from tests.harness.query_stream import QueryStream
from tests.live.live_site import SERVFAIL, Site, answer
from tests.live.test_processes import informer_of

STEADY, THERE = "steady.shop.svc.cluster.local.", "web.shop.svc.other.local."
BOTH = ("web.shop.svc.here.local.", "web.shop.svc.there.local.")
FREE = 8.0
COMPLETE = "[INFO] Reloading complete"
WAITS = "[WARNING] plugin/kubernetes: the new configuration waits until the cluster has been read for it"


def block(site: Site, *directives: str) -> str:
    """A Corefile of one block."""
    probes = f"    errors\n    ready :{site.ready_port}\n"
    return f".:53 {{\n{probes}{''.join(directives)}}}\n"


def write(site: Site, corefile: str) -> None:
    """Put another Corefile in place, and say so."""
    draft = site.server.directory / "Corefile.new"
    draft.write_text(site.place.with_own_ports(corefile))
    os.replace(draft, site.server.directory / "Corefile")
    site.server.send_signal(signal.SIGUSR1)


def count(site: Site, line: str) -> int:
    """How often the log has a line that begins so."""
    return sum(found.startswith(line) for found in site.server.stdout.splitlines())


def pid_of_informer(site: Site) -> int | None:
    found = informer_of(site)
    return None if found is None else found.pid


def reload(site: Site, corefile: str) -> None:
    """Change over."""
    before = count(site, COMPLETE)
    write(site, corefile)
    site.wait(lambda: count(site, COMPLETE) > before, "reloaded", FREE)


def started(site: Site) -> FakeApiServer:
    api = site.open_api()
    api.put(namespace(), service("steady", "10.96.0.1"))
    site.start_corefile(block(site, site.directive(api)), workers=2)
    site.wait_found(STEADY, answer("10.96.0.1"), FREE)
    return api


def test_reloads_while_the_list_is_slow_leave_it_alone(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), service("steady", "10.96.0.1"))
    held = api.faults.add("held", "Service")
    corefile = block(site, site.directive(api))
    site.start_corefile(corefile, workers=2)
    held.wait_met()
    informer = pid_of_informer(site)
    for number in range(4):
        reload(site, corefile.replace("errors", "errors\n" + "loadbalance\n" * (number % 2)))
        assert site.ask(STEADY) == SERVFAIL
        assert site.ready == 503
    assert pid_of_informer(site) == informer
    held.remove()
    site.wait_found(STEADY, answer("10.96.0.1"), FREE)
    site.wait(lambda: site.ready == 200, "ready", FREE)


def test_other_views_take_over_when_the_cluster_has_been_read_for_them(site: Site) -> None:
    api = started(site)
    with QueryStream(site.place, site.server.peer(), STEADY) as stream:
        away = api.faults.add("refused")
        write(site, block(site, site.directive(api, "cluster.local", "ttl 7", "startup_timeout 1s")))
        site.wait(lambda: count(site, WAITS), "the new one waits", FREE)
        assert site.ask(STEADY) == answer("10.96.0.1")
        assert site.ready == 200
        assert count(site, COMPLETE) == 0
        away.remove()
        site.wait(lambda: count(site, COMPLETE), "reloaded", FREE)
        api.put(service("steady", "10.96.0.2"))
        site.wait_found(STEADY, answer("10.96.0.2"), FREE)
        assert site.ready == 200
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_a_newer_corefile_takes_the_place_of_one_that_waits(site: Site) -> None:
    api = started(site)
    informer = pid_of_informer(site)
    away = api.faults.add("refused")
    write(site, block(site, site.directive(api, "cluster.local", "ttl 7", "startup_timeout 1s")))
    site.wait(lambda: count(site, WAITS), "the new one waits", FREE)
    reload(site, block(site, "    loadbalance\n", site.directive(api)))
    assert count(site, "[INFO] the new configuration is given up for a newer one") == 1
    assert count(site, "[ERROR] Restart failed") == 0
    assert site.ask(STEADY) == answer("10.96.0.1")
    assert pid_of_informer(site) == informer
    away.remove()
    api.put(service("steady", "10.96.0.2"))
    site.wait_found(STEADY, answer("10.96.0.2"), FREE)


def test_a_new_cluster_that_is_away_holds_nothing_up_for_long(site: Site) -> None:
    here, there = started(site), site.open_api()
    there.put(namespace(), service("web", "10.97.0.1"))
    away = there.faults.add("refused")
    with QueryStream(site.place, site.server.peer(), STEADY) as stream:
        first, second = (
            site.directive(here, "cluster.local in-addr.arpa", "startup_timeout 1s"),
            site.directive(there, "other.local", "startup_timeout 1s"),
        )
        reload(site, block(site, first) + f"other.local:53 {{\n{second}}}\n")
        assert site.ask(THERE) == SERVFAIL
        assert site.ready == 503
        away.remove()
        site.wait_found(THERE, answer("10.97.0.1"), FREE)
        site.wait(lambda: site.ready == 200, "ready", FREE)
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_views_that_change_their_numbers_are_never_mixed_up(site: Site) -> None:
    """Two clusters have a Service of one name. Whichever directive comes first, each zone has its own."""
    here, there = site.open_api(), site.open_api()
    here.put(namespace(), service("web", "10.96.0.1"))
    there.put(namespace(), service("web", "10.97.0.1"))
    blocks = [
        f"{zone}:53 {{\n errors\n{site.directive(api, zone)}}}\n"
        for zone, api in (("here.local", here), ("there.local", there))
    ]
    site.start_corefile("".join(blocks), workers=2)
    expected = dict(zip(BOTH, (answer("10.96.0.1"), answer("10.97.0.1")), strict=True))
    for qname in BOTH:
        site.wait_found(qname, expected[qname], FREE)
    for _ in range(4):
        blocks.reverse()
        before = count(site, COMPLETE)
        write(site, "".join(blocks))
        while count(site, COMPLETE) == before:
            assert {qname: site.ask(qname) for qname in BOTH} == expected
        assert {qname: site.ask(qname) for qname in BOTH} == expected
