"""What a worker shows of itself."""

from __future__ import annotations

from kdns.metrics import Registry
from kdns.server.tcp_slots import TcpEvent, TcpStatistics
from kdns.server.worker_metrics import Load, WorkerMetrics


def test_what_is_under_way_is_summed_over_listeners_and_events_count_once():
    metrics = Registry()
    shown = WorkerMetrics(metrics)
    loads = [
        Load(3, TcpStatistics(2, 1, {TcpEvent.ACCEPTED: 5})),
        Load(1, TcpStatistics(4, 0, {TcpEvent.ACCEPTED: 1, TcpEvent.TIMED_OUT_IDLE: 1})),
    ]
    for _ in range(2):
        shown.publish(loads, tasks=9)
    found = metrics.read()
    assert found["kdns_slow_path_queries"] == {("udp",): [4], ("tcp",): [1]}
    assert found["kdns_tcp_connections"] == {(): [6]}
    assert found["go_goroutines"] == {(): [9]}
    assert found["kdns_tcp_events_total"] == {("accepted",): [6], ("timed_out_idle",): [1]}
    shown.publish([Load(0, TcpStatistics(0, 0, {TcpEvent.ACCEPTED: 7, TcpEvent.TIMED_OUT_IDLE: 1}))], tasks=1)
    assert metrics.read()["kdns_tcp_events_total"] == {("accepted",): [7], ("timed_out_idle",): [1]}
    assert metrics.read()["kdns_slow_path_queries"] == {("udp",): [0], ("tcp",): [0]}
