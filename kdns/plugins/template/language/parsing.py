"""From tokens to a tree, with Go's complaints."""

from __future__ import annotations

from collections.abc import Callable, Collection

from kdns.plugins.go_numbers import quoted
from kdns.plugins.template.language.lexing import Kind, Lexer, TemplateSyntaxError, Token
from kdns.plugins.template.language.literals import parse_character, parse_number, unquote
from kdns.plugins.template.language.nodes import (
    Action,
    Block,
    Branch,
    Chain,
    Command,
    Dot,
    Fields,
    Function,
    Leave,
    Literal,
    Nil,
    Node,
    Pipeline,
    Text,
    Variable,
)

MAX_DEPTH = 100  # actions and parentheses within each other; no record needs ten

_OPERANDS = frozenset(
    (Kind.BOOL, Kind.CHARACTER, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL, Kind.RAW_STRING,
     Kind.STRING, Kind.VARIABLE, Kind.LEFT_PAREN)
)  # fmt: skip
_BRANCHES = frozenset(("if", "with", "range"))
_NOT_HERE = frozenset(("block", "define", "template"))  # a record is one template


class Parser:
    """Parses one template. Raises TemplateSyntaxError."""

    def __init__(self, name: str, text: str, functions: Collection[str]) -> None:
        self._lexer = Lexer(name, text)
        self._functions = functions
        self._tokens = self._lexer.tokens()
        self._next = 0
        self._variables = ["$"]
        self._depth = self._ranges = 0
        self.slots = 1  # variables there are at once at most

    def parse(self) -> Block:
        """The whole template."""
        block, end = self._block()
        if end.text:
            raise self._error(f"unexpected {{{{{end.text}}}}}")
        return block

    # Blocks

    def _block(self) -> tuple[Block, Token]:
        """Parts up to an `{{end}}` or `{{else}}`, which is read, or to the end of the text."""
        nodes: list[Node] = []
        start = self._peek().at
        while True:
            token = self._read()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.at, token.text))
                continue
            if token.kind is Kind.EOF:
                return Block(start, tuple(nodes)), token
            word = self._read_past_space()
            if word.kind is Kind.KEYWORD:
                if word.text in ("end", "else"):
                    return Block(start, tuple(nodes)), word
                nodes.append(self._control(word))
                continue
            self._next -= 1
            pipeline = self._pipeline("command", Kind.RIGHT)
            nodes.append(Action(pipeline.at, pipeline))

    def _control(self, word: Token) -> Node:
        if word.text in _BRANCHES:
            return self._branch(word)
        if word.text in _NOT_HERE:
            raise self._error(f"{{{{{word.text}}}}} has no place in a resource record")
        closing = self._read_past_space()
        if closing.kind is not Kind.RIGHT:
            raise self._unexpected(closing, f"{{{{{word.text}}}}}")
        if not self._ranges:
            raise self._error(f"{{{{{word.text}}}}} outside {{{{range}}}}")
        return Leave(word.at, word.text)

    def _branch(self, word: Token) -> Branch:
        self._enter()
        known = len(self._variables)
        pipeline = self._pipeline(word.text, Kind.RIGHT)
        self._ranges += word.text == "range"
        body, end = self._block()
        self._ranges -= word.text == "range"
        otherwise, is_closed = None, False
        if end.text == "else":
            following = self._peek_past_space()
            # `{{else if}}` is a branch of its own, whose `{{end}}` is this one's too.
            is_closed = following.kind is Kind.KEYWORD and following.text == word.text in ("if", "with")
            if is_closed:
                otherwise = Block(following.at, (self._branch(self._read()),))
            else:
                self._close("else")
                otherwise, end = self._block()
        if not is_closed:
            if end.kind is Kind.EOF:
                raise self._error("unexpected EOF")
            if end.text == "else":
                raise self._error("expected end; found {{else}}")
            self._close("end")
        del self._variables[known:]
        self._depth -= 1
        return Branch(word.at, word.text, pipeline, body, otherwise)

    def _close(self, context: str) -> None:
        token = self._read_past_space()
        if token.kind is not Kind.RIGHT:
            raise self._unexpected(token, context)

    # Pipelines

    def _pipeline(self, context: str, end: Kind) -> Pipeline:
        self._enter()
        start = self._peek_past_space().at
        variables, slots, assigns = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._read_past_space()
            if token.kind is end:
                break
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._next -= 1
            commands.append(self._command())
        if not commands:
            raise self._error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.arguments[0], (Literal, Nil, Dot)):
                raise self._error(f"non executable command in pipeline stage {stage}")
        self._depth -= 1
        return Pipeline(start, tuple(commands), variables, slots, assigns)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], tuple[int, ...], bool]:
        """`$name :=`, `$name =` or `range`'s `$index, $element :=`; nothing where none of these follows."""
        before = self._next
        found: list[str] = []
        while (token := self._read_past_space()).kind is Kind.VARIABLE:
            found.append(token.text)
            sign = self._read_past_space()
            if sign.kind is Kind.COMMA and context == "range" and len(found) < 2:
                continue
            if sign.kind is Kind.COMMA:
                raise self._error(f"too many declarations in {context}")
            if sign.kind is Kind.DECLARE:
                self._variables += found
                self.slots = max(self.slots, len(self._variables))
                first = len(self._variables) - len(found)
                return tuple(found), tuple(range(first, first + len(found))), False
            if sign.kind is Kind.ASSIGN:
                return tuple(found), tuple(self._slot(name) for name in found), True
            break
        self._next = before
        return (), (), False

    def _command(self) -> Command:
        arguments: list[Node] = []
        start = self._peek_past_space().at
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                arguments.append(operand)
            token = self._read()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.RIGHT_PAREN):
                self._next -= 1
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not arguments:
            raise self._error("empty command")
        return Command(start, tuple(arguments))

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        names, at = [], self._peek().at
        while self._peek().kind is Kind.FIELD:
            names.append(self._read().text[1:])
        match node:
            case Fields():
                return Fields(at, (*node.names, *names))
            case Variable():
                return Variable(at, node.name, node.slot, (*node.names, *names))
            case Pipeline():
                return Chain(at, node, tuple(names))
        raise self._error(f"unexpected . after term {quoted(str(node))}")

    def _term(self) -> Node | None:
        token = self._read_past_space()
        make: dict[Kind, Callable[[Token], Node]] = {
            Kind.DOT: lambda token: Dot(token.at),
            Kind.NIL: lambda token: Nil(token.at),
            Kind.FIELD: lambda token: Fields(token.at, (token.text[1:],)),
            Kind.VARIABLE: lambda token: Variable(token.at, token.text, self._slot(token.text), ()),
            Kind.IDENTIFIER: self._function,
            Kind.BOOL: lambda token: Literal(token.at, token.text == "true", token.text),
            Kind.NUMBER: self._literal(parse_number),
            Kind.CHARACTER: self._literal(parse_character),
            Kind.STRING: self._literal(unquote),
            Kind.RAW_STRING: lambda token: Literal(token.at, token.text[1:-1].replace("\r", ""), token.text),
        }
        if token.kind is Kind.LEFT_PAREN:
            return self._pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
        if token.kind not in make:
            self._next -= 1
            return None
        return make[token.kind](token)

    def _literal(self, parse: Callable[[str], object]) -> Callable[[Token], Node]:
        def literal(token: Token) -> Node:
            try:
                return Literal(token.at, parse(token.text), token.text)
            except ValueError as error:
                raise self._error(str(error)) from error

        return literal

    def _function(self, token: Token) -> Node:
        if token.text not in self._functions:
            raise self._error(f"function {quoted(token.text)} not defined")
        return Function(token.at, token.text)

    def _slot(self, name: str) -> int:
        for slot in range(len(self._variables) - 1, -1, -1):
            if self._variables[slot] == name:
                return slot
        raise self._error(f"undefined variable {quoted(name)}")

    # Tokens

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _read(self) -> Token:
        token = self._tokens[self._next]
        self._next += token.kind is not Kind.EOF
        return token

    def _skip_space(self) -> None:
        while self._peek().kind is Kind.SPACE:
            self._next += 1

    def _peek_past_space(self) -> Token:
        self._skip_space()
        return self._peek()

    def _read_past_space(self) -> Token:
        self._skip_space()
        return self._read()

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} actions within each other")

    def _unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
        if token.kind is Kind.EOF:
            said = "EOF"
        elif token.kind in (Kind.KEYWORD, Kind.DOT, Kind.NIL):
            said = f"<{token.text}>"
        else:
            said = quoted(token.text[:10]) + "..." if len(token.text) > 10 else quoted(token.text)
        return self._error(f"unexpected {said} in {context}")

    def _error(self, text: str) -> TemplateSyntaxError:
        return self._lexer.error(text, self._tokens[max(0, self._next - 1)].at)
