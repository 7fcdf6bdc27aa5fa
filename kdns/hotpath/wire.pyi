from typing_extensions import Buffer
from typing import Any

def inspect(packet: Buffer) -> tuple[int, dict[str, Any]]: ...
