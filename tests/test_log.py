"""The shape of log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from kdns import log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The log of the other tests, afterwards."""
    logger = log.logger()
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def test_lines_begin_with_their_level(capfd: pytest.CaptureFixture[str]):
    log.configure(debug=True)
    for write in (log.logger().debug, log.logger().info, log.logger().warning, log.logger().error):
        write("%d things", 3)
    log.logger().critical("the end")
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "[DEBUG] 3 things",
        "[INFO] 3 things",
        "[WARNING] 3 things",
        "[ERROR] 3 things",
        "[FATAL] the end",
    ]
    assert err == ""


def test_debug_lines_are_left_out_unless_asked_for(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.logger().debug("x")
    assert capfd.readouterr().out == ""


def test_a_plugin_names_itself(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.plugin_logger("ready").info('Plugins not ready: "%s"', "kubernetes")
    assert capfd.readouterr().out == '[INFO] plugin/ready: Plugins not ready: "kubernetes"\n'


def test_one_event_is_one_line(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.logger().info("met %s", "a\n[ERROR] forged\r\nb")
    assert capfd.readouterr().out == "[INFO] met a\\n[ERROR] forged\\r\\nb\n"


def test_a_line_is_out_as_soon_as_it_is_written(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.logger().info("no flush")
    assert capfd.readouterr().out == "[INFO] no flush\n"


def test_configuring_twice_does_not_double_lines(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.configure()
    log.logger().info("once")
    assert capfd.readouterr().out == "[INFO] once\n"


def test_percent_signs_of_a_message_without_arguments_stay(capfd: pytest.CaptureFixture[str]):
    log.configure()
    log.logger().info("100%")
    assert capfd.readouterr().out == "[INFO] 100%\n"


def test_other_libraries_are_not_in_the_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
    log.configure()
    logging.getLogger("aiohttp").error("theirs")
    assert "theirs" not in capfd.readouterr().out
    log.logger().error("ours")
    assert "ours" not in caplog.text
