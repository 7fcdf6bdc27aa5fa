"""The first moments of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kdns.hotpath.table_writer import TableWriter
from kdns.table.image import Snapshot, save_image

# What is on the first three descriptors when the command line is looked at, and the kept table has been read.
PROGRAM = """
import os, sys
import kdns.cli
from kdns.start import main

def look(preload):
    preload._join()
    with open(sys.argv[1], "w") as file:
        file.write(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))
    return 0

kdns.cli.main = look
sys.exit(main())
"""


def test_nothing_gets_a_descriptor_that_was_closed_and_will_be_written_to(tmp_path: Path) -> None:
    with Snapshot(TableWriter.create(1, 1000, 1 << 16, bytes(16))) as snapshot:
        save_image(tmp_path, snapshot, bytes(32), 0)
    found = tmp_path / "found"
    started = [sys.executable, "-c", PROGRAM, str(found), "--state-dir", str(tmp_path)]
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *started], check=True, timeout=30)
    assert found.read_text() == "/dev/null /dev/null /dev/null"
