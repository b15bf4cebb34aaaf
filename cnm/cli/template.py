"""``--format``: the part of Go's text/template that formatting needs.

Fields, nested fields and methods, variables, ``if``, ``with``, ``range`` with
``else``, ``break`` and ``continue``, pipes, parentheses, comments, trimming, and
the functions of ``template_functions``. What the real ``docker`` prints for a
template on the same data is what this prints; its errors too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnm.cli import template_parse as tree
from cnm.cli.errors import TemplateError
from cnm.cli.gotext import text, type_name
from cnm.cli.template_functions import (
    FUNCTIONS,
    KIND_NAMES,
    CallFailed,
    Function,
    accepts,
    truth,
)
from cnm.cli.values import NO_VALUE, Row, Struct


class Template:
    """A parsed template.

    :raises TemplateError: from the constructor, when the source is malformed.
    """

    __slots__ = ("_functions", "_nodes", "_source")

    def __init__(self, source: str, functions: Mapping[str, Function] = FUNCTIONS) -> None:
        self._source = source
        self._functions = functions
        self._nodes = tree.Parser(source, functions).parse()

    def render(self, data: object) -> str:
        """The template's output for ``data``.

        :raises TemplateError: when the template asks for what the data does not have.
        """
        execution = _Execution(self._source, self._functions, data)
        execution.walk(data, self._nodes)
        return "".join(execution.output)


class _Missing:
    """Marks that a command was handed no value by the one before it."""


_NOTHING = _Missing()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Execution:
    """One run over one value: output and variables."""

    def __init__(self, source: str, functions: Mapping[str, Function], data: object) -> None:
        self.output: list[str] = []
        self._source = source
        self._functions = functions
        self._variables: list[tuple[str, object]] = [("$", data)]

    def walk(self, dot: object, nodes: Iterable[tree.Node]) -> None:
        for node in nodes:
            if isinstance(node, tree.Text):
                self.output.append(node.text)
            elif isinstance(node, tree.Action):
                value = self._pipe(dot, node.pipe)
                if not node.pipe.names:
                    self.output.append(text(value))
            elif isinstance(node, tree.Branch):
                mark = len(self._variables)
                self._branch(dot, node)
                del self._variables[mark:]
            else:
                raise _Break if node.text == "break" else _Continue

    def _branch(self, dot: object, node: tree.Branch) -> None:
        if node.kind == "range":
            self._range(dot, node)
            return
        value = self._pipe(dot, node.pipe)
        if truth(value):
            self.walk(value if node.kind == "with" else dot, node.body)
        else:
            self.walk(dot, node.otherwise)

    def _range(self, dot: object, node: tree.Branch) -> None:
        value = self._pipe(dot, node.pipe, bind=False)
        pairs = self._pairs(value, node)
        mark = len(self._variables)
        for key, item in pairs:
            self._bind_range(node.pipe, key, item)
            try:
                self.walk(item, node.body)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                del self._variables[mark:]
        if not pairs:
            self.walk(dot, node.otherwise)

    def _pairs(self, value: object, node: tree.Branch) -> list[tuple[object, object]]:
        """What a range goes over: maps by sorted key, lists, and numbers up to themselves."""
        if value is None or value is NO_VALUE:
            return []
        if isinstance(value, dict) and not isinstance(value, Struct):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, list):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        where = node.pipe.commands[-1].operands[-1]
        raise self._fail(where, f"range can't iterate over {text(value)}")

    def _bind_range(self, pipe: tree.Pipe, key: object, item: object) -> None:
        values = (item,) if len(pipe.names) == 1 else (key, item)
        for name, value in zip(pipe.names, values, strict=False):
            if pipe.declares:
                self._variables.append((name, value))
            else:
                self._assign(name, value)

    def _assign(self, name: str, value: object) -> None:
        for place in reversed(range(len(self._variables))):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return

    def _variable(self, name: str) -> object:
        return next(value for known, value in reversed(self._variables) if known == name)

    def _pipe(self, dot: object, pipe: tree.Pipe, bind: bool = True) -> object:
        value: object = _NOTHING
        for command in pipe.commands:
            value = self._command(dot, command, value)
        if bind and pipe.names:
            if pipe.declares:
                self._variables.append((pipe.names[0], value))
            else:
                self._assign(pipe.names[0], value)
        return value

    def _command(self, dot: object, command: tree.Command, final: object) -> object:
        first, arguments = command.operands[0], command.operands[1:]
        if first.kind == "function":
            return self._chain(self._function(dot, command, final), first, first.fields)
        if first.fields and first.kind in ("dot", "variable", "chain"):
            return self._field_command(dot, command, final)
        if arguments or final is not _NOTHING:
            raise self._fail(first, f"can't give argument to non-function {first.text}")
        if first.kind == "nil":
            raise self._fail(first, "nil is not a command")
        return self._operand(dot, first)

    def _field_command(self, dot: object, command: tree.Command, final: object) -> object:
        """A field, or a method with its arguments."""
        first = command.operands[0]
        given = [self._operand(dot, operand) for operand in command.operands[1:]]
        if final is not _NOTHING:
            given.append(final)
        receiver = self._chain(self._origin(dot, first), first, first.fields[:-1])
        name = first.fields[-1]
        method = receiver.methods.get(name) if isinstance(receiver, Row) else None
        if method is not None:
            return self._method(first, name, method, given)
        value = self._field(receiver, name, first)
        if given:
            raise self._fail(first, f"{name} is not a method but has arguments")
        return value

    def _method(self, node: tree.Operand, name: str, method: object, given: list[object]) -> object:
        if len(given) != 1:
            raise self._fail(node, f"wrong number of args for {name}: want 1 got {len(given)}")
        if not isinstance(given[0], str) or not callable(method):
            raise self._fail(node, f"expected string; found {text(given[0])}")
        return method(given[0])

    def _origin(self, dot: object, operand: tree.Operand) -> object:
        """The value that an operand's fields start from."""
        if operand.kind == "dot":
            return dot
        if operand.kind == "variable":
            return self._variable(str(operand.value))
        if isinstance(operand.value, tree.Pipe):
            return self._pipe(dot, operand.value)
        return None if operand.kind == "nil" else operand.value

    def _operand(self, dot: object, operand: tree.Operand) -> object:
        if operand.kind == "function":
            command = tree.Command([operand])
            return self._chain(self._function(dot, command, _NOTHING), operand, operand.fields)
        value = self._origin(dot, operand)
        if operand.fields:
            value = self._chain(value, operand, operand.fields[:-1])
            name = operand.fields[-1]
            if isinstance(value, Row) and name in value.methods:
                raise self._fail(operand, f"wrong number of args for {name}: want 1 got 0")
            value = self._field(value, name, operand)
        return value

    def _chain(self, value: object, node: tree.Operand, names: Iterable[str]) -> object:
        for name in names:
            value = self._field(value, name, node)
        return value

    def _field(self, value: object, name: str, node: tree.Operand) -> object:
        if isinstance(value, Struct):
            try:
                return value.field(name)
            except KeyError:
                raise self._fail(node, f'map has no entry for key "{name}"') from None
        if isinstance(value, dict):
            return value.get(name, NO_VALUE)
        if isinstance(value, Row) and name in value.fields:
            return value.fields[name]
        if value is NO_VALUE:
            return NO_VALUE
        if value is None:
            raise self._fail(node, f"nil pointer evaluating interface {{}}.{name}")
        kind = value.kind if isinstance(value, Row) else "interface {}"
        raise self._fail(node, f"can't evaluate field {name} in type {kind}")

    def _function(self, dot: object, command: tree.Command, final: object) -> object:
        node = command.operands[0]
        name = str(node.value)
        function = self._functions[name]
        operands = command.operands[1:]
        self._count(node, name, function, len(operands) + (final is not _NOTHING))
        if name in ("and", "or"):
            return self._shortcut(dot, operands, final, stop=name == "or")
        values = []
        for place, operand in enumerate(operands):
            value = self._operand(dot, operand)
            self._check(function, place, value, operand)
            values.append(value)
        if final is not _NOTHING:
            self._check(function, len(values), final, node)
            values.append(final)
        try:
            return function.call(*values)
        except CallFailed as error:
            raise self._fail(command, f"error calling {name}: {error}") from None

    def _shortcut(
        self, dot: object, operands: list[tree.Operand], final: object, stop: bool
    ) -> object:
        """``and`` and ``or``: the first value that decides, else the last."""
        value = final
        for operand in operands:
            value = self._operand(dot, operand)
            if truth(value) == stop:
                return value
        return value if final is _NOTHING else final

    def _count(self, node: tree.Node, name: str, function: Function, got: int) -> None:
        if got < function.minimum and function.variadic:
            want = f"at least {function.minimum}"
        elif got != len(function.kinds) and not function.variadic:
            want = str(len(function.kinds))
        else:
            return
        raise self._fail(node, f"wrong number of args for {name}: want {want} got {got}")

    def _check(self, function: Function, place: int, value: object, node: tree.Operand) -> None:
        kind = function.kinds[min(place, len(function.kinds) - 1)]
        if accepts(kind, value):
            return
        wanted = KIND_NAMES[kind]
        if node.kind == "literal" and kind != "l":
            raise self._fail(node, f"expected {_literal_name(wanted)}; found {node.text}")
        problem = f"wrong type for value; expected {wanted}; got {type_name(value)}"
        raise self._fail(node, problem)

    def _fail(self, node: tree.Node, message: str) -> TemplateError:
        before = self._source[: node.position]
        line = before.count("\n") + 1
        column = len(before[before.rfind("\n") + 1 :].encode())
        return TemplateError(f':{line}:{column}: executing "" at <{node.text}>: {message}')


def _literal_name(kind: str) -> str:
    return "integer" if kind == "int" else kind
