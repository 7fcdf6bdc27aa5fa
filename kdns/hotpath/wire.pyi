from typing import Any

from typing_extensions import Buffer

def inspect(packet: Buffer) -> tuple[int, dict[str, Any]]: ...
