"""What `make test` has no time for each time; CONTROLPLANE_TESTS=all asks for it."""

from __future__ import annotations

import os

import pytest

IS_WHOLE = os.environ.get("CONTROLPLANE_TESTS") == "all"
EXTRA = pytest.mark.skipif(not IS_WHOLE, reason="takes long; CONTROLPLANE_TESTS=all runs it")
