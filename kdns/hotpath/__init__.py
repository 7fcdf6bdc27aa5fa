"""The compiled path: datagram -> table lookup -> datagram. README.md states its contract."""
