"""`debug`: more lines."""

from __future__ import annotations

import logging

from kdns import log
from tests.fakes.directives import refused, set_up
from tests.fakes.logs import collected


def test_debug_lines_are_logged():
    with collected() as lines:
        log.logger().debug("before")
        assert set_up("debug") is None
        assert log.logger().level == logging.DEBUG
        log.logger().debug("after")
    assert lines == ["[DEBUG] after"]


def test_takes_no_argument():
    text = "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'x'"
    assert refused("debug x") == f"plugin/debug: {text}"
