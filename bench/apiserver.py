"""An API server for peers that follow one: `python -m bench.apiserver MANIFESTS` serves a generated cluster.

It is the one the tests use, without any of its faults.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.fakes.apiserver import FakeApiServer


def main() -> int:
    """Serve until told to end; prints `ready PORT` once everything can be listed."""
    parser = argparse.ArgumentParser(prog="python -m bench.apiserver", description=__doc__)
    parser.add_argument("manifests", type=Path, help="a folder of List files, as `python -m bench cluster` writes them")
    options = parser.parse_args()
    with FakeApiServer() as server:
        for path in sorted(options.manifests.glob("*.json")):
            server.put(*json.loads(path.read_text())["items"])
        print(f"ready {server.port}", flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
