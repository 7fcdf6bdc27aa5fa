import sys

import pytest

from bench import instructions
from bench.instructions import InstructionCounter, can_count


@pytest.fixture(autouse=True)
def _forget():
    can_count.cache_clear()
    yield
    can_count.cache_clear()


@pytest.mark.parametrize(
    ("printed", "count"),
    [
        ("1234567,,instructions,1000000,100.00,,\n", 1_234_567),
        ("99,,instructions:u,1000000,100.00,,\n", 99),
        ("<not supported>,,instructions,0,100.00,,\n", None),
        ("", None),
    ],
)
def test_what_perf_prints(printed, count):
    assert instructions._read(printed) == count


def test_without_perf_nothing_is_counted(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    with InstructionCounter([1]) as counter:
        pass
    assert counter.count is None


def test_a_program_that_counts_is_asked(monkeypatch, tmp_path):
    perf = tmp_path / "perf"
    # A shell cannot trap a signal that whoever runs the tests has it ignore; perf can, and Python.
    perf.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, signal, sys\n"
        "if 'true' not in sys.argv:\n"
        "    signal.signal(signal.SIGINT, lambda *_: sys.exit('4242,,instructions,1,100.00,,'))\n"
        f"    pathlib.Path('{tmp_path}/ready').touch()\n"
        "    while True:\n"
        "        signal.pause()\n"
        "sys.exit('7,,instructions,1,100.00,,')\n"
    )
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with InstructionCounter([1]) as counter:
        while not (tmp_path / "ready").exists():
            assert counter._perf.poll() is None
    assert counter.count == 4242
