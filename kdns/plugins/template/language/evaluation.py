"""A template compiled to closures: each part is turned into a function once, at start.

A value's function is given the variables (a list, `$` first, the others in the places the parser gave them) and dot. A
part's function is given the list of texts written so far as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdns.errors import KdnsError
from kdns.plugins.go_numbers import quoted
from kdns.plugins.template.language.functions import ANY_NUMBER, FUNCTIONS, LAZY, NAMES, ArgumentError, CallError
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
from kdns.plugins.template.language.parsing import Parser
from kdns.plugins.template.language.values import Method, Struct, inner_text, is_true, text_of, type_name

MAX_ROUNDS = 10_000  # of a template's `range`s together; a record has room for fewer

Variables = list[object]
Value = Callable[[Variables, object], object]
Part = Callable[[list[str], Variables, object], None]
Call = Callable[[Variables, object, tuple[object, ...]], object]


class TemplateError(KdnsError):
    """A template could not be carried out; the text is Go's."""


Failure = Callable[[str], TemplateError]


class _Left(Exception):
    """`{{break}}` or `{{continue}}`."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword


class Template:
    """A parsed template. `name` is what error messages call it. Raises TemplateSyntaxError."""

    def __init__(self, name: str, text: str) -> None:
        parser = Parser(name, text, NAMES)
        self._tree = parser.parse()
        self._slots = parser.slots
        self._render = _Compiler(name, text).block(self._tree)

    def __str__(self) -> str:
        return str(self._tree)

    def render(self, data: object) -> str:
        """The text that comes of some data. Raises TemplateError."""
        written: list[str] = []
        variables: Variables = [None] * (self._slots + 1)
        variables[0] = data
        variables[-1] = MAX_ROUNDS
        self._render(written, variables, data)
        return "".join(written)


class _Compiler:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text

    # Parts

    def block(self, block: Block) -> Part:
        parts = [self._part(node) for node in block.nodes]
        if len(parts) == 1:
            return parts[0]

        def render(written: list[str], variables: Variables, dot: object) -> None:
            for part in parts:
                part(written, variables, dot)

        return render

    def _part(self, node: Node) -> Part:
        match node:
            case Text():
                return lambda written, variables, dot: written.append(node.text)
            case Action():
                return self._action(node)
            case Leave():
                return _leave(node.keyword)
            case Branch(keyword="range"):
                return self._range(node)
        assert isinstance(node, Branch)
        return self._branch(node)

    def _action(self, node: Action) -> Part:
        value = self._pipeline(node.pipeline)
        if node.pipeline.variables:
            return lambda written, variables, dot: void(value(variables, dot))
        return lambda written, variables, dot: written.append(text_of(value(variables, dot)))

    def _branch(self, node: Branch) -> Part:
        value, body = self._pipeline(node.pipeline), self.block(node.body)
        otherwise = None if node.otherwise is None else self.block(node.otherwise)
        changes_dot = node.keyword == "with"

        def render(written: list[str], variables: Variables, dot: object) -> None:
            found = value(variables, dot)
            if is_true(found):
                body(written, variables, found if changes_dot else dot)
            elif otherwise is not None:
                otherwise(written, variables, dot)

        return render

    def _range(self, node: Branch) -> Part:
        pipeline = node.pipeline
        value = self._pipeline(Pipeline(pipeline.at, pipeline.commands))
        body = self.block(node.body)
        otherwise = None if node.otherwise is None else self.block(node.otherwise)
        fail = self._failure(pipeline)

        def render(written: list[str], variables: Variables, dot: object) -> None:
            rounds = _rounds(value(variables, dot), fail)
            if not rounds and otherwise is not None:
                otherwise(written, variables, dot)
            for index, element in rounds:
                left = variables[-1]
                assert isinstance(left, int)
                if not left:
                    raise fail(f"more than {MAX_ROUNDS} rounds")
                variables[-1] = left - 1
                if len(pipeline.slots) == 1:
                    variables[pipeline.slots[0]] = element
                elif pipeline.slots:
                    variables[pipeline.slots[0]], variables[pipeline.slots[1]] = index, element
                try:
                    body(written, variables, element)
                except _Left as left_by:
                    if left_by.keyword == "break":
                        break

        return render

    # Values

    def _pipeline(self, node: Pipeline) -> Value:
        first, *others = node.commands
        value = self._command(first)
        for command in others:
            value = self._piped(value, self._call(command))
        if not node.slots:
            return value
        slots, inner = node.slots, value

        def store(variables: Variables, dot: object) -> object:
            found = inner(variables, dot)
            for slot in slots:
                variables[slot] = found
            return found

        return store

    def _piped(self, value: Value, call: Call) -> Value:
        return lambda variables, dot: call(variables, dot, (value(variables, dot),))

    def _command(self, node: Command) -> Value:
        head, *rest = node.arguments
        if isinstance(head, Function) or (rest and isinstance(head, (Fields, Variable, Chain))):
            call = self._call(node)
            return lambda variables, dot: call(variables, dot, ())
        if rest:
            fail = self._failure(head)
            said = "nil is not a command" if isinstance(head, Nil) else f"can't give argument to non-function {head}"
            return _raising(fail, said)
        if isinstance(head, Nil):
            fail = self._failure(head)
            return _raising(fail, "nil is not a command")
        return self._value(head)

    def _call(self, node: Command) -> Call:
        """A function or method with its arguments; the piped value comes behind them."""
        head, *rest = node.arguments
        arguments = [self._value(part) for part in rest]
        if isinstance(head, Function) and head.name in LAZY:
            return self._lazy(node, head, arguments)
        if isinstance(head, Function):
            return self._function(node, head, arguments)
        fail = self._failure(head)
        if not isinstance(head, (Fields, Variable, Chain)) or not head.names:
            refuse = _raising(fail, f"can't give argument to non-function {head}")
            return lambda variables, dot, piped: refuse(variables, dot)
        method = self._value(head, is_called=True)
        name = head.names[-1]

        def call(variables: Variables, dot: object, piped: tuple[object, ...]) -> object:
            found = method(variables, dot)
            if not isinstance(found, Method):
                raise fail(f"{name} has arguments but cannot be invoked as function")
            given = (*[argument(variables, dot) for argument in arguments], *piped)
            return _call_method(found, name, given, fail)

        return call

    def _function(self, node: Command, head: Function, arguments: Sequence[Value]) -> Call:
        function, least, most = FUNCTIONS[head.name]
        fail, fail_within = self._failure(head), self._failure(node)

        def call(variables: Variables, dot: object, piped: tuple[object, ...]) -> object:
            count = len(arguments) + len(piped)
            if count < least or (most != ANY_NUMBER and count > most):
                wanted = f"want at least {least}" if most == ANY_NUMBER else f"want {most}"
                raise fail(f"wrong number of args for {head.name}: {wanted} got {count}")
            try:
                return function(*[argument(variables, dot) for argument in arguments], *piped)
            except ArgumentError as error:
                raise fail_within(str(error)) from error
            except CallError as error:
                raise fail_within(f"error calling {head.name}: {error}") from error

        return call

    def _lazy(self, node: Command, head: Function, arguments: Sequence[Value]) -> Call:
        """`and` and `or`: the first value that decides it, or the last one."""
        goes_on = LAZY[head.name]
        fail = self._failure(head)

        def call(variables: Variables, dot: object, piped: tuple[object, ...]) -> object:
            if not arguments and not piped:
                raise fail(f"wrong number of args for {head.name}: want at least 1 got 0")
            found: object = None
            for argument in arguments:
                found = argument(variables, dot)
                if is_true(found) is not goes_on:
                    return found
            return piped[0] if piped else found

        return call

    def _value(self, node: Node, *, is_called: bool = False) -> Value:
        match node:
            case Dot():
                return lambda variables, dot: dot
            case Nil():
                return lambda variables, dot: None
            case Literal():
                return lambda variables, dot: node.value
            case Fields():
                return self._fields(node, node.names, lambda variables, dot: dot, is_called)
            case Variable(names=()):
                return lambda variables, dot: variables[node.slot]
            case Variable():
                return self._fields(node, node.names, lambda variables, dot: variables[node.slot], is_called)
            case Chain():
                return self._fields(node, node.names, self._pipeline(node.node), is_called)
            case Pipeline():
                return self._pipeline(node)
            case Function():
                call = self._call(Command(node.at, (node,)))
                return lambda variables, dot: call(variables, dot, ())
        raise AssertionError(node)

    def _fields(self, node: Node, names: Sequence[str], start: Value, is_called: bool) -> Value:
        fail = self._failure(node)

        def get(variables: Variables, dot: object) -> object:
            value = start(variables, dot)
            for name in names:
                if isinstance(value, Method):
                    value = _call_method(value, name, (), fail)
                value = _field(value, name, fail)
            if isinstance(value, Method) and not is_called:
                return _call_method(value, names[-1], (), fail)
            return value

        return get

    def _failure(self, node: Node) -> Failure:
        """What makes the error that says something of a part."""
        before = self._text[: node.at]
        line, column = 1 + before.count("\n"), len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        prefix = f'template: {self._name}:{line}:{column}: executing "{self._name}" at <{node}>: '

        return lambda text: TemplateError(prefix + text)


def void(value: object) -> None:
    """Nothing: the value was stored and is not written."""


def _raising(fail: Failure, text: str) -> Value:
    def refuse(variables: Variables, dot: object) -> object:
        raise fail(text)

    return refuse


def _leave(keyword: str) -> Part:
    def leave(written: list[str], variables: Variables, dot: object) -> None:
        raise _Left(keyword)

    return leave


def _rounds(value: object, fail: Failure) -> Sequence[tuple[object, object]]:
    """(index, element) of each round of a `range`."""
    match value:
        case None:
            return []
        case list() | tuple():
            return list(enumerate(value))
        case dict():
            return sorted(value.items())
        case bool() | str() | float():
            pass
        case int():
            return [(index, index) for index in range(min(value, MAX_ROUNDS + 1))]
    raise fail(f"range can't iterate over {inner_text(value)}")


def _field(value: object, name: str, fail: Failure) -> object:
    if isinstance(value, Struct):
        try:
            return value.field(name)
        except KeyError:
            pass
    elif isinstance(value, dict):
        return value.get(name)
    elif value is None:
        raise fail(f"nil data; no entry for key {quoted(name)}")
    raise fail(f"can't evaluate field {name} in type {type_name(value)}")


def _call_method(method: Method, name: str, arguments: Sequence[object], fail: Failure) -> object:
    if len(arguments) != method.arity:
        raise fail(f"wrong number of args for {name}: want {method.arity} got {len(arguments)}")
    for argument in arguments:
        if not isinstance(argument, str):
            raise fail(f"wrong type for value; expected string; got {type_name(argument)}")
    return method.call(*arguments)
