import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from bench.bulk import bulk, main
from bench.flood import plain_queries


@contextmanager
def server(reply_size):
    """A name server over TCP that answers one connection with replies of `reply_size`, or hangs up if that is 0."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                while len(head := stream.read(2)) == 2:
                    query = stream.read(struct.unpack("!H", head)[0])
                    if not reply_size:
                        return
                    reply = (query[:2] + b"\x84\x00").ljust(reply_size, b"\0")
                    connection.sendall(struct.pack("!H", reply_size) + reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@pytest.mark.parametrize("size", [12, 20_000, 65_535])
def test_replies_of_any_size_are_counted(size):
    with server(size) as port:
        result = bulk("127.0.0.1", port, 0.1, plain_queries(["web.shop.svc.cluster.local. A"]), connections=1)

    assert result.sent == result.answered > 0
    assert result.reply_bytes == size
    assert result.rcodes == {"NOERROR": result.answered}


def test_a_server_that_hangs_up_ends_with_one_line(capsys, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text("web.shop.svc.cluster.local. A\n")
    with server(0) as port:
        status = main(["127.0.0.1", str(port), "1", "--connections", "1", "--questions", str(questions)])

    assert status == 1
    assert "the server closed a connection" in capsys.readouterr().err
