"""From names in a reply to names the client knows. A name that would become illegal stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kdns.dns import names
from kdns.plugins.pattern import Pattern, Replacement
from kdns.plugins.rewrite.matching import to_wire


class NameMap(Protocol):
    """A name, or what it becomes. All in wire form."""

    # What a name rule did to the question's name is undone, to the octet.
    restores: bool

    def map(self, name: bytes) -> bytes:
        """What a name of the reply becomes."""
        ...


@dataclass(frozen=True, slots=True)
class Restore:
    """One name becomes another, and the names below it move along."""

    was: bytes  # lower case
    becomes: bytes
    restores = True

    def map(self, name: bytes) -> bytes:
        """What a name of the reply becomes."""
        lowered = names.lower(name)
        if lowered == self.was:
            return self.becomes
        if not lowered.endswith(self.was) or not names.is_below(lowered, self.was):
            return name
        mapped = name[: len(name) - len(self.was)] + self.becomes
        return mapped if len(mapped) <= names.MAX_NAME else name


@dataclass(frozen=True, slots=True)
class SuffixMap:
    """The end of a name's text becomes another."""

    was: str
    becomes: str
    restores = True

    def map(self, name: bytes) -> bytes:
        """What a name of the reply becomes."""
        text = names.to_text(names.lower(name))
        if not text.endswith(self.was):
            return name
        return to_wire(text.removesuffix(self.was) + self.becomes) or name


@dataclass(frozen=True, slots=True)
class PatternMap:
    """A name in which an expression has a match becomes a text with the match's groups in it."""

    pattern: Pattern
    replacement: Replacement
    restores = False

    def map(self, name: bytes) -> bytes:
        """What a name of the reply becomes."""
        groups = self.pattern.search(names.to_text(names.lower(name)))
        if groups is None:
            return name
        return to_wire(self.replacement.expand(groups)) or name
