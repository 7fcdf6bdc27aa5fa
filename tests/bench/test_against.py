import os
import shutil
import socket
import threading
from contextlib import contextmanager

import pytest

from bench.__main__ import main
from bench.errors import BenchError
from bench.latency import check_ceiling, latencies
from bench.load import Options
from bench.loads import LOADS
from bench.target import Stranger

CORE = str(min(os.sched_getaffinity(0)))
SMALL = ["--services", "20", "--endpoints", "100", "--headless", "2", "--largest", "5"]


@contextmanager
def echo():
    """A name server that answers every query with NOERROR and no record."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def serve():
            while True:
                query, client = listener.recvfrom(4096)
                if query == b"stop":
                    return
                listener.sendto(query[:2] + b"\x84\x00" + query[4:], client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"stop", listener.getsockname())
            thread.join()


needs_dnsperf = pytest.mark.skipif(shutil.which("dnsperf") is None, reason="dnsperf is not installed")


@needs_dnsperf
def test_any_server_is_measured_with_recorded_questions(tmp_path, capsys):
    recorded = tmp_path / "questions"
    recorded.write_text("web.shop. A\nwww.example. HTTPS\n")
    with echo() as port:
        arguments = [
            "against",
            f"localhost:{port}",
            "--replay",
            str(recorded),
            "--rounds",
            "1",
            "--seconds",
            "1",
            *SMALL,
        ]
        status = main([*arguments, "--results", str(tmp_path / "results"), "--load-core", CORE])

    printed = capsys.readouterr().out
    assert status == 0
    assert "queries/s" in printed
    assert "rcodes: NOERROR 100.0%" in printed
    assert "CPU" not in printed
    assert list((tmp_path / "results").glob("*.json"))


@needs_dnsperf
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pid", "999999999"], "there is no such process"),
        (["--replay", "/nowhere"], "/nowhere: No such file or directory"),
        (["--load", "unique"], "asks what nobody asked before"),
        (["--load", "none"], "unknown load 'none'"),
        (["--load-core", "4095"], "core 4095 may not be used here"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments, says, capsys):
    assert main(["against", "127.0.0.1:9", "--load-core", CORE, *SMALL, *arguments]) == 1

    error = capsys.readouterr().err
    assert error.startswith("bench: ")
    assert says in error
    assert error.count("\n") == 1


@needs_dnsperf
def test_a_server_that_is_not_there_is_told_of(capsys, monkeypatch):
    monkeypatch.setattr("bench.against.PROBE_SECONDS", 0.1)
    assert main(["against", "127.0.0.1:9", "--load-core", CORE, "--load", "hits", *SMALL]) == 1

    assert "127.0.0.1:9 answers nothing" in capsys.readouterr().err


@needs_dnsperf
def test_a_rate_that_the_load_cannot_send_is_refused(tmp_path):
    questions = tmp_path / "questions"
    questions.write_text("web.shop. A\n")
    with echo() as port, pytest.raises(BenchError, match=r"hits at 90 %: (sent|the load's core was)"):
        latencies(
            LOADS["hits"],
            Stranger("127.0.0.1", port),
            questions,
            90,
            5_000_000.0,
            Options(seconds=1, load_core=int(CORE)),
        )


def test_a_rate_too_near_to_the_ceiling_is_refused_before_it_is_sent():
    check_ceiling(LOADS["hits"], 50, 100_000.0, 100_000.0)
    with pytest.raises(BenchError, match=r"90,100 queries/s are too near to what dnsperf can send \(100,000\)"):
        check_ceiling(LOADS["hits"], 85, 106_000.0, 100_000.0)
