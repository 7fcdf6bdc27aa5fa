"""A reader in another process, while the writer publishes without pause: no reply is ever a mixture."""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
import time
import traceback

import pytest

from kdns.dns import names
from kdns.hotpath.answer import Responder
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.metrics import OUTCOMES
from kdns.plugins.plugin import TABLE, Route
from kdns.table.epochs import ReaderEpochs
from kdns.table.render import Response, soa_template
from tests.fakes.dns_values import query

ZONE = names.from_text("test")
NAME = names.from_text("db.test")
COMING = [names.from_text(f"c{n}.test") for n in range(12)]
VERSIONS_PER_GENERATION = 4000
FEWEST_GENERATIONS = 6
FEWEST_READS = 60_000
DEADLINE_SECONDS = 60.0  # for a machine that is very busy; an idle one takes two
MOST_REUSED = 1 << 20  # octets of a generation whose 4,000 versions take two million when nothing is reused
_RECORD = struct.Struct("!HHHIHI")
_HEAD = 12 + len(NAME) + 4


def records(version: int) -> Response:
    """A set whose size and data both follow from its version, so that a mixture betrays itself."""
    count = 2 + version % 60
    body = _RECORD.pack(0xC00C, 1, 1, 5, 4, version) * count
    return Response(1, 0, _RECORD.size, count, 0, 0, body, None)


def check_reply(reply: bytes, oldest: int) -> int:
    """The version a reply shows; fails where it is none, or older than one seen before."""
    count = struct.unpack_from("!H", reply, 6)[0]
    version = struct.unpack_from("!I", reply, _HEAD + 12)[0]
    assert version >= oldest, f"version {version} after {oldest}"
    assert count == 2 + version % 60
    assert reply[_HEAD:] == records(version).body
    return version


def read_without_pause(end: socket.socket, reads: mmap.mmap, epoch: memoryview) -> None:
    """Ask the newest generation handed over until told to end."""
    route = Route(ZONE, TABLE, zone_labels=1, zone_length=len(ZONE), soa=soa_template(5), rotates=True)
    responder = Responder([route])
    question, coming = query(NAME), [(name, query(name)) for name in COMING]
    seen = done = 0
    end.setblocking(True)
    while True:
        data, fds, _, _ = socket.recv_fds(end, 1, 1)
        if not fds:
            assert data == b".", "the writer is gone"
            return
        table = Table(fds[0])
        os.close(fds[0])
        table.read_under(epoch)
        responder.set_table(table)
        end.setblocking(False)
        while True:
            for name, coming_question in coming:
                outcome, reply = responder.respond_once(question, stream=True)
                assert OUTCOMES[outcome] == "answer", "the set is there in every version"
                seen = check_reply(reply, seen)
                entry = table.lookup(NAME, 1, 0)
                seen = check_reply(reply[:6] + struct.pack("!H", entry[3]) + reply[8:_HEAD] + entry[6], seen)
                outcome, reply = responder.respond_once(coming_question)
                if OUTCOMES[outcome] == "answer":
                    assert reply.endswith(name), "a name's answer is its own"
                else:
                    assert OUTCOMES[outcome] == "nxdomain", "a name comes after its types, and goes before them"
                exists = table.lookup(name, 0, 0)
                assert exists is None or exists[6].endswith(name)
                done += 1
            struct.pack_into("=Q", reads, 0, done)
            try:
                end.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            break
        end.setblocking(True)


@pytest.mark.parametrize("reuses", [False, True], ids=["memory grows", "memory is reused"])
def test_a_reader_sees_published_versions_only(reuses):
    """Versions of one set, names that come and go into each other's slots, and generations that follow each other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reads = mmap.mmap(-1, 8)
    epochs = ReaderEpochs(2)
    watched = epochs.all_rows() if reuses else None
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ours.close()
            read_without_pause(theirs, reads, epochs.row(1))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    theirs.close()
    rng = random.Random(11)
    table = TableWriter.create(1, 0, 64 << 20, rng.randbytes(16), watched)
    version = generation = 1
    has_reused = False
    table.replace_node(NAME, 0, 0, [records(version)])
    table.set_synced(0, True)
    deadline = time.monotonic() + DEADLINE_SECONDS
    with ours:
        while (
            generation <= FEWEST_GENERATIONS
            or struct.unpack("=Q", reads)[0] < FEWEST_READS
            or (reuses and not has_reused)
        ):
            assert time.monotonic() < deadline, "the reader does not read"
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the reader has failed"
            socket.send_fds(ours, [b"+"], [table.fd])
            for _ in range(VERSIONS_PER_GENERATION):
                table.reclaim()
                version += 1
                table.replace_node(NAME, 0, 0, [records(version)])
                name = rng.choice(COMING)
                own = struct.pack("!HHHIH", 0xC00C, 1, 1, 5, len(name)) + name
                found = None if rng.random() < 0.5 else [Response(1, 0, 0, 1, 0, 0, own, None)]
                table.replace_node(name, 0, 0, found)
                table.seal()
            # A reader that is not scheduled while in a batch holds memory back, so not every generation reuses any.
            has_reused = has_reused or table.statistics()["used_bytes"] < MOST_REUSED
            generation += 1
            following = TableWriter.create(generation, 0, 64 << 20, rng.randbytes(16), watched)
            table.copy_live(following)
            table = following
        ours.send(b".")
        assert os.waitpid(child, 0)[1] == 0
    assert version > FEWEST_GENERATIONS * VERSIONS_PER_GENERATION
    assert has_reused is reuses
