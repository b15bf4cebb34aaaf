"""Reads a Go template into a tree of nodes.

Each node knows its position and its own text, since Go's errors quote both
(``template: :1:2: executing "" at <.Nope>: …``). Follows text/template/parse;
``define``, ``template`` and ``block`` are left out, nobody needs them in a
``--format``.
"""

from __future__ import annotations

from collections.abc import Collection

from cnm.cli.template_lex import Token, fail, tokens


class Node:
    """Anything that can be walked or evaluated."""

    __slots__ = ("position", "text")

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text


class Text(Node):
    """Text outside the delimiters."""

    __slots__ = ()


class Operand(Node):
    """A value's source: ``kind`` is dot, nil, literal, function, variable or chain.

    ``value`` is the literal, or the name of the function or variable, or the
    pipeline in parentheses; ``fields`` are the names that follow it, dots removed.
    """

    __slots__ = ("fields", "kind", "value")

    def __init__(self, kind: str, value: object, fields: tuple[str, ...], token: Token) -> None:
        super().__init__(token.position, token.value)
        self.kind = kind
        self.value = value
        self.fields = fields


class Command(Node):
    """A function or value and its arguments."""

    __slots__ = ("operands",)

    def __init__(self, operands: list[Operand]) -> None:
        super().__init__(operands[0].position, " ".join(operand.text for operand in operands))
        self.operands = operands


class Pipe(Node):
    """Commands joined by ``|``; their result goes into ``names``, if there are any."""

    __slots__ = ("commands", "declares", "names")

    def __init__(self, position: int, names: list[str], declares: bool, commands: list[Command]):
        text = " | ".join(command.text for command in commands)
        if names:
            text = f"{', '.join(names)} {':=' if declares else '='} {text}"
        super().__init__(position, text)
        self.names = names
        self.declares = declares
        self.commands = commands


class Action(Node):
    """``{{pipeline}}``."""

    __slots__ = ("pipe",)

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe.position, pipe.text)
        self.pipe = pipe


class Branch(Node):
    """``if``, ``with`` or ``range`` (``kind``) and its two bodies."""

    __slots__ = ("body", "kind", "otherwise", "pipe")

    def __init__(self, kind: str, pipe: Pipe, body: list[Node], otherwise: list[Node]) -> None:
        super().__init__(pipe.position, pipe.text)
        self.kind = kind
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise


class Jump(Node):
    """``break`` or ``continue`` (the text)."""

    __slots__ = ()


_NOT_EXECUTABLE = ("literal", "nil", "dot")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Parser:
    """Recursive descent over the tokens of one template."""

    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._tokens = tokens(source)
        self._next = 0
        self._functions = functions
        self._variables = ["$"]
        self._loops = 0

    def parse(self) -> list[Node]:
        """The template's nodes.

        :raises TemplateError: with Go's text, for a malformed template.
        """
        nodes, end = self._body()
        if end.kind != "eof":
            raise fail(end.line, f"unexpected {{{{{end.value}}}}}")
        return nodes

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _body(self) -> tuple[list[Node], Token]:
        """Nodes up to ``else``, ``end`` or the end of the template, and what ended them."""
        nodes: list[Node] = []
        while True:
            token = self._take()
            if token.kind == "eof":
                return nodes, token
            if token.kind == "text":
                nodes.append(Text(token.position, token.value))
                continue
            if self._peek().kind != "keyword":
                nodes.append(Action(self._pipe("command", "right")))
                continue
            word = self._take()
            if word.value in _UNSUPPORTED:
                raise fail(word.line, f"{{{{{word.value}}}}} is not supported")
            if word.value in ("else", "end"):
                return nodes, word
            nodes.append(self._jump(word) if word.value in _JUMPS else self._branch(word))

    def _jump(self, word: Token) -> Jump:
        if not self._loops:
            raise fail(word.line, f"{{{{{word.value}}}}} outside {{{{range}}}}")
        self._expect_right(word.value)
        return Jump(word.position, word.value)

    def _branch(self, word: Token) -> Branch:
        scope = len(self._variables)
        pipe = self._pipe(word.value, "right")
        self._loops += word.value == "range"
        body, end = self._body()
        self._loops -= word.value == "range"
        otherwise: list[Node] = []
        if end.value == "else":
            otherwise, end = self._else(word)
        if end.kind == "eof":
            raise fail(end.line, "unexpected EOF")
        if end.value == "else":
            raise fail(end.line, "expected end; found {{else}}")
        if end is not _CLOSED:
            self._expect_right("end")
        del self._variables[scope:]
        return Branch(word.value, pipe, body, otherwise)

    def _else(self, word: Token) -> tuple[list[Node], Token]:
        """The other body. ``else if`` and ``else with`` share the one ``end``."""
        if self._peek().value == word.value and word.value in ("if", "with"):
            return [self._branch(self._take())], _CLOSED
        self._expect_right("else")
        return self._body()

    def _expect_right(self, context: str) -> None:
        token = self._take()
        if token.kind != "right":
            raise fail(token.line, f'unexpected "{token.value}" in {context}')

    def _pipe(self, context: str, end: str) -> Pipe:
        position = self._peek().position
        names, declares = self._names(context)
        commands: list[Command] = []
        while True:
            token = self._peek()
            if token.kind == end:
                self._take()
                break
            commands.append(self._command(end))
        self._check(commands, context, token)
        if declares:
            self._variables += names
        return Pipe(position, names, declares, commands)

    def _check(self, commands: list[Command], context: str, token: Token) -> None:
        if not commands:
            raise fail(token.line, f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            first = command.operands[0]
            if first.kind in _NOT_EXECUTABLE and not first.fields:
                raise fail(token.line, f"non executable command in pipeline stage {stage}")

    def _names(self, context: str) -> tuple[list[str], bool]:
        """The variables that a pipeline sets, and whether it declares them."""
        names: list[str] = []
        start = self._next
        while self._peek().kind == "variable":
            token = self._take()
            names.append(token.value)
            following = self._peek()
            if following.kind in ("declare", "assign"):
                self._take()
                self._check_names(names, context, token, following.kind == "declare")
                return names, following.kind == "declare"
            if following.kind != "comma":
                break
            self._take()
            if context != "range" or len(names) > 1:
                raise fail(token.line, f"too many declarations in {context}")
        self._next = start
        return [], False

    def _check_names(self, names: list[str], context: str, token: Token, declares: bool) -> None:
        if len(names) > 1 and context != "range":
            raise fail(token.line, f"too many declarations in {context}")
        for name in names:
            if not declares and name not in self._variables:
                raise fail(token.line, f'undefined variable "{name}"')

    def _command(self, end: str) -> Command:
        operands: list[Operand] = []
        while True:
            token = self._peek()
            if token.kind == end:
                break
            if token.kind == "pipe":
                self._take()
                break
            operands.append(self._operand())
        if not operands:
            raise fail(token.line, f'unexpected "{token.value}" in command')
        return Command(operands)

    def _operand(self) -> Operand:
        token = self._take()
        kind, value = self._term(token)
        if kind == "chain":
            text = f"({value.text})" if isinstance(value, Pipe) else token.value
        else:
            text = token.value
        fields = [token.value[1:]] if token.kind == "field" else []
        position = token.position
        if self._peek().kind == "dot" and self._adjacent():
            raise fail(token.line, _misplaced(self._peek()))
        if self._peek().kind == "field":
            # As Go: a chain's position is that of its second part.
            position = self._peek().position
        while self._peek().kind == "field" and self._adjacent():
            part = self._take()
            fields.append(part.value[1:])
            text += part.value
        if fields and kind in ("literal", "nil"):
            raise fail(token.line, f"unexpected . after term {text!r}")
        if not fields:
            position = token.position
        return Operand(kind, value, tuple(fields), Token(kind, text, position, token.line))

    def _adjacent(self) -> bool:
        """Whether the next token follows the last one without a blank."""
        last, following = self._tokens[self._next - 1], self._peek()
        return last.position + len(last.value) == following.position

    def _term(self, token: Token) -> tuple[str, object]:
        if token.kind == "word":
            if token.value not in self._functions:
                raise fail(token.line, f'function "{token.value}" not defined')
            return "function", token.value
        if token.kind == "variable":
            if token.value not in self._variables:
                raise fail(token.line, f'undefined variable "{token.value}"')
            return "variable", token.value
        if token.kind == "open":
            return "chain", self._pipe("parenthesized pipeline", "close")
        if token.kind in ("dot", "field", "nil"):
            return ("nil" if token.kind == "nil" else "dot"), None
        return "literal", literal(token)


_UNSUPPORTED = ("define", "template", "block")
_JUMPS = ("break", "continue")
_CLOSED = Token("keyword", "end", 0, 0)


def literal(token: Token) -> object:
    """The value of a string, character, number or constant.

    :raises TemplateError: for anything else, as a misplaced token.
    """
    if token.kind == "string":
        return unquote(token)
    if token.kind == "raw":
        return token.value[1:-1]
    if token.kind == "char":
        return ord(unquote(token))
    if token.kind == "constant":
        return token.value == "true"
    if token.kind == "number":
        return _number(token)
    raise fail(token.line, _misplaced(token))


def _misplaced(token: Token) -> str:
    if token.kind == "right":
        return "unclosed left paren"
    if token.kind == "close":
        return "unexpected right paren"
    if token.kind == "dot":
        return "unexpected <.> in operand"
    return f'unexpected "{token.value}" in operand'


def _number(token: Token) -> int | float:
    try:
        return int(token.value, 0)
    except ValueError:
        pass
    try:
        return float(token.value)
    except ValueError:
        raise fail(token.line, f'bad number syntax: "{token.value}"') from None


def unquote(token: Token) -> str:
    """A Go string or character literal without its quotes and escapes."""
    parts: list[str] = []
    body = token.value[1:-1]
    index = 0
    while index < len(body):
        if body[index] != "\\":
            parts.append(body[index])
            index += 1
            continue
        letter = body[index + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        parts.append(_escape(letter, body[index + 2 : index + 2 + width], token))
        index += 2 + width
    return "".join(parts)


def _escape(letter: str, digits: str, token: Token) -> str:
    if letter in "xuU":
        return chr(int(digits, 16))
    if letter in "\"'\\":
        return letter
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    raise fail(token.line, "invalid syntax")
