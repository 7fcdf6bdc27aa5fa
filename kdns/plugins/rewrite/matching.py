"""Which names a rule is for. Names are compared as text, lower case and with the final dot, as CoreDNS does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kdns.dns import names
from kdns.errors import FormatError
from kdns.plugins.pattern import Groups, Pattern, literal_ending


class MatchType(StrEnum):
    """How a name is compared with what a rule says."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    SUBSTRING = "substring"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class NameMatch:
    """What a name must be like. `text` is the expression where `kind` is REGEX."""

    kind: MatchType
    text: str
    pattern: Pattern | None = None
    ending: str = ""  # what every name that meets this ends in, behind a whole character; of SUFFIX and some of REGEX

    @staticmethod
    def by_text(kind: MatchType, text: str) -> NameMatch:
        """A match of any kind but REGEX."""
        return NameMatch(kind, text, None, text if kind is MatchType.SUFFIX else "")

    @staticmethod
    def by_pattern(pattern: Pattern) -> NameMatch:
        """A match by an expression."""
        return NameMatch(MatchType.REGEX, pattern.text, pattern, literal_ending(pattern.text))

    def meets(self, name: str) -> bool:
        """Whether a rule is for this name."""
        match self.kind:
            case MatchType.EXACT:
                return name == self.text
            case MatchType.PREFIX:
                return name.startswith(self.text)
            case MatchType.SUFFIX:
                return self._has_ending(name)
            case MatchType.SUBSTRING:
                return self.text in name
        assert self.pattern is not None
        return self._has_ending(name) and self.pattern.is_in(name)

    def groups(self, name: str) -> Groups | None:
        """The groups of the expression's match in a name; None where it has none."""
        assert self.pattern is not None
        return self.pattern.search(name) if self._has_ending(name) else None

    def touched(self) -> bytes | None:
        """A suffix all names that may meet this end in; None where any name may."""
        if self.kind is MatchType.EXACT:
            whole = self.text
        else:
            # `.corp.test.` begins at a label; `corp.test.` may begin within one, and only what follows is sure.
            whole = "" if "\\" in self.ending else self.ending.partition(".")[2]
        return to_wire(whole) if whole else None

    def _has_ending(self, name: str) -> bool:
        # A dot that is part of a label does not begin an ending: names are told apart by their labels.
        return name.endswith(self.ending) and not ends_in_escape(name[: len(name) - len(self.ending)])


def fqdn(text: str) -> str:
    """A name in lower case and with its final dot, whatever else it is."""
    lowered = text.lower()
    if not lowered.endswith("."):
        return lowered + "."
    return lowered + "." if ends_in_escape(lowered[:-1]) else lowered


def ends_in_escape(text: str) -> bool:
    """Whether a dot behind this text would be part of a label: it ends in an odd number of backslashes."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def to_wire(text: str) -> bytes | None:
    """A name in wire form; None where the text is no legal name."""
    try:
        return names.from_text(text)
    except FormatError:
        return None
