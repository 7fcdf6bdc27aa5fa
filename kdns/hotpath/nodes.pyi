from collections.abc import Collection, Iterator

from kdns.dns.rrset import Batch, Node
from kdns.hotpath.table_writer import TableWriter

def replace(table: TableWriter, view: int, node: Node, apexes: Collection[bytes]) -> bool | None: ...
def load(
    table: TableWriter, view: int, nodes: Iterator[Node | Batch], apexes: Collection[bytes]
) -> Node | Batch | None: ...
