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
    perf.write_text(
        "#!/bin/sh\n"
        "trap 'echo \"4242,,instructions,1,100.00,,\" >&2; exit 0' INT\n"
        'case "$*" in *true*) echo "7,,instructions,1,100.00,," >&2; exit 0;; esac\n'
        f"touch {tmp_path}/ready\n"
        "while :; do /bin/sleep 0.01; done\n"
    )
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with InstructionCounter([1]) as counter:
        while not (tmp_path / "ready").exists():
            assert counter._perf.poll() is None
    assert counter.count == 4242
