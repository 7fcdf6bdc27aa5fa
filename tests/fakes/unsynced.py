"""A Corefile served before anything of a cluster is known."""

from __future__ import annotations

from kdns.hotpath.answer import Responder
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.plugins.plugin import Surroundings
from kdns.server.publisher import Publisher
from tests.fakes.directives import build
from tests.fakes.served import Served

LOCAL_ADDRESS = b"\x0a\x01\x01\x01"


def serve_unsynced(corefile: str) -> Served:
    """What a worker answers with as soon as the informer runs, and until it has read everything."""
    surroundings = Surroundings((LOCAL_ADDRESS,), has_manifests=True)
    built = build(corefile, surroundings)
    writers: list[TableWriter] = []
    Publisher(surroundings.views, writers.append).start()
    surroundings.current_table.table = Table(writers[0].fd)
    responder = Responder(built.listeners[0].routes())
    responder.set_table(surroundings.current_table.table)
    return Served(built, responder, None, [])  # type: ignore[arg-type] - nobody changes this table
