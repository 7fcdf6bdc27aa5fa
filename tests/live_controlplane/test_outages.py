"""The API server goes away, comes back, forgets versions and goes back in time; the names go on being answered."""

from __future__ import annotations

from pathlib import Path

from bench.diff import compare_servers
from bench.records import Question
from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import ControlPlane
from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.harness.places import Loopback
from tests.harness.query_stream import QueryStream
from tests.harness.server import Server
from tests.live.live_site import NXDOMAIN, PLAIN_ZONES, answer
from tests.live.metrics import values_of
from tests.live_controlplane.deployed import following
from tests.live_controlplane.plane_site import PlaneSite

SUFFIX = "shop.svc.cluster.local."
WEB, DB, LATE = f"web.{SUFFIX}", f"db.{SUFFIX}", f"late.{SUFFIX}"
NOTICED_SECONDS = 60.0
OBJECTS = (namespace(), service("web", "10.96.0.9"), service("db", "None"), endpoint_slice("db", "10.1.0.1"))


def start(plane: ControlPlane, site: PlaneSite) -> None:
    """A server that knows the cluster."""
    with BlockingApi(plane.api()) as api:
        api.apply(*OBJECTS)
    site.start(following(plane, site.directory), workers=2)
    site.wait_found(DB, answer("10.1.0.1"), NOTICED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", NOTICED_SECONDS)


def test_a_restart_of_the_api_server_is_not_seen_and_changes_go_on(plane: ControlPlane, site: PlaneSite) -> None:
    start(plane, site)
    with QueryStream(site.place, site.server.peer(), WEB, 200) as stream:
        plane.stop()
        site.wait(lambda: "not followed for the moment" in site.server.stdout, "the outage is logged", NOTICED_SECONDS)
        assert site.ask(DB) == answer("10.1.0.1")
        assert site.ask(LATE) == NXDOMAIN
        assert (site.ready, site.health) == (200, 200)
        plane.start()
        with BlockingApi(plane.api()) as api:
            api.apply(service("late", "10.96.0.10"), endpoint_slice("db", "10.1.0.2"))
            site.wait_found(LATE, answer("10.96.0.10"), NOTICED_SECONDS)
            site.wait_found(DB, answer("10.1.0.2"), NOTICED_SECONDS)
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_what_happened_before_a_compaction_is_found_by_a_list(plane: ControlPlane, site: PlaneSite) -> None:
    """Changes made while kdns is cut off, and forgotten by the server before kdns is back."""
    start(plane, site)
    with QueryStream(site.place, site.server.peer(), WEB, 200) as stream:
        port, plane.port = plane.port, plane.port + 1  # where kdns does not look for it
        plane.restart()
        with BlockingApi(plane.api()) as api:
            api.apply(service("late", "10.96.0.10"), endpoint_slice("db", "10.1.0.2"), namespace("other"))
            api.delete("Service", "shop", "web")
            api.apply(service("web", "10.96.0.9"))
        plane.compact()
        plane.stop()
        plane.port = port
        plane.start()
        site.wait_found(LATE, answer("10.96.0.10"), NOTICED_SECONDS)
        site.wait_found(DB, answer("10.1.0.2"), NOTICED_SECONDS)
        site.wait_found("other.svc.cluster.local.", answer(), NOTICED_SECONDS)
    found = stream.statistics()
    assert (found.wrong, found.lost) == (0, 0), found


def test_a_server_that_goes_back_in_time_is_believed(plane: ControlPlane, site: PlaneSite) -> None:
    """Versions are given a second time: a watch resumed from before would tell nothing."""
    with BlockingApi(plane.api()) as api:
        api.apply(*OBJECTS)
    plane.stop()
    plane.save("before")
    plane.start()
    start(plane, site)
    with BlockingApi(plane.api()) as api:
        api.apply(service("late", "10.96.0.10"), endpoint_slice("db", "10.1.0.2"))
        site.wait_found(LATE, answer("10.96.0.10"), NOTICED_SECONDS)
        for number in range(100):  # further on than the restored server will be for a while
            api.patch("Service", "shop", "late", {"metadata": {"labels": {"number": str(number)}}})
    plane.stop()
    plane.restore("before")
    plane.start()
    site.wait_found(LATE, NXDOMAIN, NOTICED_SECONDS)
    site.wait_found(DB, answer("10.1.0.1"), NOTICED_SECONDS)
    assert site.ask(WEB) == answer("10.96.0.9")
    with BlockingApi(plane.api()) as api:
        api.apply(service("newer", "10.96.0.11"))
    site.wait_found(f"newer.{SUFFIX}", answer("10.96.0.11"), NOTICED_SECONDS)


def test_a_restart_of_kdns_is_not_seen_while_the_api_server_is_away(plane: ControlPlane, site: PlaneSite) -> None:
    with BlockingApi(plane.api()) as api:
        api.apply(*OBJECTS)
    state = site.directory / "state"
    state.mkdir()
    metrics = Loopback().dns_port

    def start_kept(age: str) -> Server:
        directive = following(plane, site.directory)
        probes = f" errors\n ready :{site.ready_port}\n prometheus 127.0.0.1:{metrics}\n"
        return site.start_command(
            f".:53 {{\n{probes}{directive}}}\n", arguments=("--state-dir", str(state), "--state-max-age", age)
        )

    start_kept("1h")
    site.wait_found(DB, answer("10.1.0.1"), NOTICED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", NOTICED_SECONDS)
    site.end_server()
    plane.stop()

    server = start_kept("1h")
    server.wait_answering()
    assert site.ask(WEB) == answer("10.96.0.9")  # its first answer: there was never another
    assert site.ask(DB) == answer("10.1.0.1")
    assert site.ask(LATE) == NXDOMAIN
    assert site.ready == 200
    assert values_of(site, metrics)["kdns_image_age_seconds"] >= 0
    plane.start()
    with BlockingApi(plane.api()) as api:
        api.apply(service("late", "10.96.0.10"))
    site.wait_found(LATE, answer("10.96.0.10"), NOTICED_SECONDS)


def test_two_servers_of_one_cluster_answer_the_same(plane: ControlPlane, site: PlaneSite, tmp_path: Path) -> None:
    start(plane, site)
    questions = [
        Question(name, kind)
        for name in (WEB, DB, LATE, SUFFIX, "cluster.local.", f"10-1-0-1.{DB}", f"_http._tcp.{WEB}", f"_http._tcp.{DB}")
        for kind in ("A", "AAAA", "SRV", "TXT", "SOA", "NS")
    ]
    questions += [Question("9.0.96.10.in-addr.arpa.", "PTR"), Question("1.0.1.10.in-addr.arpa.", "PTR")]
    place = Loopback()
    corefile = f".:53 {{\n errors\n{following(plane, site.directory, PLAIN_ZONES)}}}\n"
    with Server(place, tmp_path / "other", corefile, workers=1) as other:
        other.wait_synced()
        here, there = ((server.peer().address, server.peer().port) for server in (site.server, other))
        found = compare_servers(here, there, questions, with_ttls=True)
        assert not found.examples
        with BlockingApi(plane.api()) as api:
            api.apply(service("late", "10.96.0.10"), endpoint_slice("db", *(f"10.1.0.{n}" for n in range(2, 9))))
        site.wait(
            lambda: not compare_servers(here, there, questions).count and site.ask(LATE) == answer("10.96.0.10"),
            "both say the same of what is new",
            NOTICED_SECONDS,
        )
        assert found.asked == len(questions)
