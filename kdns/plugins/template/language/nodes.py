"""The parts of a parsed template. As text they are as Go prints them: in error messages, and as a metric's label."""

from __future__ import annotations

from dataclasses import dataclass

from kdns.plugins.go_numbers import quoted


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a template, and how many characters stand before it."""

    at: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """What stands outside of actions."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """`.`"""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil(Node):
    """`nil`"""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, a truth value, a character or a text, and how it was written."""

    value: object
    written: str

    def __str__(self) -> str:
        return self.written


@dataclass(frozen=True, slots=True)
class Fields(Node):
    """`.Group.a`: fields of dot."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join("." + name for name in self.names)


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """`$match.Name`: a variable, by its place, and its fields."""

    name: str
    slot: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name + "".join("." + name for name in self.names)


@dataclass(frozen=True, slots=True)
class Function(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`(pipeline).Field`."""

    node: Pipeline
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"({self.node})" + "".join("." + name for name in self.names)


@dataclass(frozen=True, slots=True)
class Command(Node):
    """A value, or a function or method and its arguments."""

    arguments: tuple[Node, ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Pipeline) else str(part) for part in self.arguments)


@dataclass(frozen=True, slots=True)
class Pipeline(Node):
    """Commands, each given the value of the one before it; `slots` are the variables that get the last one's."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()
    assigns: bool = False  # to variables there are

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(self.variables)} {'=' if self.assigns else ':='} {commands}"


@dataclass(frozen=True, slots=True)
class Action(Node):
    """`{{pipeline}}`: its value is written."""

    pipeline: Pipeline

    def __str__(self) -> str:
        return f"{{{{{self.pipeline}}}}}"


@dataclass(frozen=True, slots=True)
class Block(Node):
    """Parts one after the other."""

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """`{{if}}`, `{{with}}` or `{{range}}`."""

    keyword: str
    pipeline: Pipeline
    body: Block
    otherwise: Block | None

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else f"{{{{else}}}}{self.otherwise}"
        return f"{{{{{self.keyword} {self.pipeline}}}}}{self.body}{otherwise}{{{{end}}}}"


@dataclass(frozen=True, slots=True)
class Leave(Node):
    """`{{break}}` or `{{continue}}`."""

    keyword: str

    def __str__(self) -> str:
        return f"{{{{{self.keyword}}}}}"


def text_literal(at: int, value: str) -> Literal:
    """A text as Go prints it."""
    return Literal(at, value, quoted(value))
