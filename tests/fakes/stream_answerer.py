"""A table for streams that knows few words: what follows a message's header says what becomes of it."""

from __future__ import annotations

from kdns.errors import StreamError

HEADER_SIZE = 12
BATCH_SIZE = 65_536


def query(message_id: int, words: bytes = b"hit", flags: int = 0) -> bytes:
    """A message: `hit` is answered, `big` with a reply of the largest size, `slow...` missed, `bad` is a FORMERR."""
    return message_id.to_bytes(2, "big") + flags.to_bytes(2, "big") + bytes(8) + words


def reply_to(message: bytes) -> bytes:
    """What the fake answers to `message`."""
    words = message[HEADER_SIZE:]
    flags = 0x8001 if words == b"bad" else 0x8000
    body = words.ljust(65_535 - HEADER_SIZE, b".") if words == b"big" else words
    return message[:2] + flags.to_bytes(2, "big") + message[4:HEADER_SIZE] + body


def frame(message: bytes) -> bytes:
    """`message` as it travels in a stream."""
    return len(message).to_bytes(2, "big") + message


class FakeStreamAnswerer:
    """Answers as the compiled path does: whole messages from the front, no more than a batch of replies at a time."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.families: set[bool] = set()

    def answer(self, data: bytes | bytearray | memoryview, family_is_v6: bool) -> tuple[int, bytes, list[bytes]]:
        self.families.add(family_is_v6)
        octets = bytes(data)
        at, replies, misses = 0, bytearray(), list[bytes]()
        while len(octets) - at >= 2 and len(replies) < BATCH_SIZE:
            size = int.from_bytes(octets[at : at + 2], "big")
            if size < HEADER_SIZE:
                if at:
                    break
                raise StreamError(f"frame of {size} octets")
            if len(octets) - at - 2 < size:
                break
            message = octets[at + 2 : at + 2 + size]
            at += 2 + size
            self.messages.append(message)
            if message[2] & 0x80:
                continue
            if message[HEADER_SIZE:].startswith(b"slow"):
                misses.append(message)
            else:
                replies += frame(reply_to(message))
        return at, bytes(replies), misses
