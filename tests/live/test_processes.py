"""The informer dies: what is known goes on being answered, and its successor catches up."""

from __future__ import annotations

import os
import signal

from tests.fakes.apiserver import FakeApiServer
from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.harness.processes import Process
from tests.harness.query_stream import QueryStream
from tests.live.live_site import NXDOMAIN, READY_SECONDS, Site, answer

INFORMER = "kdns: informer"
STEADY, OTHER, GHOST = (f"{name}.shop.svc.cluster.local." for name in ("steady", "other", "ghost"))
CAUGHT_UP_SECONDS = 5.0
FREE = 5.0


def informer_of(site: Site) -> Process | None:
    """The informer that lives, if one does."""
    return next((process for process in site.server.processes() if process.title.startswith(INFORMER)), None)


def kill_informer(site: Site) -> int:
    """Kill the informer as the kernel would where memory is short; its process id."""
    site.wait(lambda: informer_of(site), "an informer lives", FREE)
    found = informer_of(site)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    return found.pid


def wait_successor(site: Site, killed: int) -> None:
    """Wait for an informer that is not the one killed."""
    site.wait(lambda: (found := informer_of(site)) is not None and found.pid != killed, "another informer lives", FREE)


def wait_trying(site: Site, killed: int) -> None:
    """Wait until the successor of an informer has met the API server that is away."""
    site.wait(
        lambda: "not followed for the moment" in site.server.stdout.partition(f"(pid {killed}) ended")[2],
        "the successor logs the outage",
        FREE,
    )


def started(site: Site) -> FakeApiServer:
    """An API server that a kdns follows."""
    api = site.open_api()
    api.put(namespace(), service("steady", "10.96.0.1"), service("other", "None"), service("ghost", "10.96.0.3"))
    api.put(endpoint_slice("other", "10.1.0.1"))
    site.start(site.directive(api), workers=2)
    site.wait_found(OTHER, answer("10.1.0.1"), FREE)
    site.wait(lambda: site.ready == 200, "ready", FREE)
    return api


def test_killed_informer_is_replaced_without_a_wrong_or_lost_answer(site: Site) -> None:
    api = started(site)
    with QueryStream(site.place, site.server.peer(), STEADY) as stream:
        site.wait(lambda: stream.answered, "queries are answered", FREE)
        for number in range(3):
            for change in range(20):  # under way while it is killed
                api.put(endpoint_slice("other", f"10.1.{number}.{change}"))
                if change == 10:
                    killed = kill_informer(site)
            api.delete("Service", "shop", "ghost")
            site.wait_found(OTHER, answer(f"10.1.{number}.19"), CAUGHT_UP_SECONDS)
            site.wait_found(GHOST, NXDOMAIN, CAUGHT_UP_SECONDS)
            wait_successor(site, killed)
            api.put(service("ghost", "10.96.0.3"))
            site.wait_found(GHOST, answer("10.96.0.3"), CAUGHT_UP_SECONDS)
            assert site.ready == 200
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_what_is_known_is_answered_while_informer_and_api_server_are_away(site: Site) -> None:
    api = started(site)
    with QueryStream(site.place, site.server.peer(), STEADY) as stream:
        site.wait(lambda: stream.answered, "queries are answered", FREE)
        away = api.faults.add("refused")
        killed = kill_informer(site)
        wait_successor(site, killed)
        wait_trying(site, killed)
        killed = kill_informer(site)  # the successor has nothing of its own
        wait_successor(site, killed)
        wait_trying(site, killed)
        api.put(endpoint_slice("other", "10.1.0.2"))
        api.delete("Service", "shop", "ghost")
        assert site.ask(OTHER) == answer("10.1.0.1")
        assert site.ask(GHOST) == answer("10.96.0.3")
        assert site.ask("nowhere.shop.svc.cluster.local.") == NXDOMAIN
        assert site.ready == 200
        away.remove()
        site.wait_found(OTHER, answer("10.1.0.2"), READY_SECONDS)
        site.wait_found(GHOST, NXDOMAIN, READY_SECONDS)
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_informer_killed_before_its_first_list_is_replaced(site: Site) -> None:
    """Without a table of a synced cluster the successor begins as the first one did."""
    api = site.open_api()
    api.put(namespace(), service("steady", "10.96.0.1"))
    held = api.faults.add("held", "Service")
    site.start(site.directive(api))
    held.wait_met()
    killed = kill_informer(site)
    wait_successor(site, killed)
    assert site.ask(STEADY).rcode == "SERVFAIL"
    assert site.ready == 503
    held.remove()
    site.wait_found(STEADY, answer("10.96.0.1"), CAUGHT_UP_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", FREE)


THERE = "web.shop.svc.other.local."


def start_two(site: Site, here: FakeApiServer, there: FakeApiServer) -> None:
    """A kdns that follows two clusters."""
    here.put(namespace(), service("steady", "10.96.0.1"), service("other", "None"), endpoint_slice("other", "10.1.0.1"))
    there.put(namespace(), service("web", "10.97.0.1"))
    probes = f"errors\n ready :{site.ready_port}\n"
    site.start_corefile(
        f"cluster.local:53 {{\n {probes}{site.directive(here, 'cluster.local')}}}\n"
        f"other.local:53 {{\n errors\n{site.directive(there, 'other.local')}}}\n",
        workers=2,
    )
    site.wait_found(OTHER, answer("10.1.0.1"), FREE)


def test_successor_follows_one_cluster_while_the_other_is_away_and_goes_on_with_what_was_known_of_it(
    site: Site,
) -> None:
    here, there = site.open_api(), site.open_api()
    start_two(site, here, there)
    site.wait(lambda: site.ready == 200, "ready", FREE)
    with QueryStream(site.place, site.server.peer(), THERE) as stream:
        site.wait(lambda: stream.answered, "queries are answered", FREE)
        away = there.faults.add("refused")
        there.put(service("web", "10.97.0.2"))
        killed = kill_informer(site)
        wait_successor(site, killed)
        here.put(endpoint_slice("other", "10.1.0.2"))
        site.wait_found(OTHER, answer("10.1.0.2"), CAUGHT_UP_SECONDS)
        here.put(endpoint_slice("other", "10.1.0.3"))
        site.wait_found(OTHER, answer("10.1.0.3"), CAUGHT_UP_SECONDS)
        assert site.ask(THERE) == answer("10.97.0.1")
        assert site.ready == 200
        away.remove()
        site.wait_found(THERE, answer("10.97.0.2"), CAUGHT_UP_SECONDS)
        assert site.ask(OTHER) == answer("10.1.0.3")
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_successor_keeps_what_is_known_of_one_cluster_though_the_other_was_never_reached(site: Site) -> None:
    here, there = site.open_api(), site.open_api()
    away = there.faults.add("refused")
    start_two(site, here, there)
    with QueryStream(site.place, site.server.peer(), STEADY) as stream:
        site.wait(lambda: stream.answered, "queries are answered", FREE)
        gone = here.faults.add("refused")
        killed = kill_informer(site)
        wait_successor(site, killed)
        wait_trying(site, killed)
        assert site.ask(OTHER) == answer("10.1.0.1")
        assert site.ask(THERE).rcode == "SERVFAIL"
        assert site.ready == 503
        gone.remove()
        here.put(endpoint_slice("other", "10.1.0.2"))
        site.wait_found(OTHER, answer("10.1.0.2"), CAUGHT_UP_SECONDS)
        away.remove()
        site.wait_found(THERE, answer("10.97.0.1"), CAUGHT_UP_SECONDS)
        site.wait(lambda: site.ready == 200, "ready", FREE)
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found
