"""Cuts a Go template into tokens: text outside ``{{ }}``, words inside.

The rules are those of Go's text/template/parse/lex.go, its error texts included,
as far as the subset of ``template`` needs them.
"""

from __future__ import annotations

import re

from cnm.cli.errors import TemplateError

KEYWORDS = frozenset("if else end range with break continue define template block".split())

# Order matters: a number may begin with a dot or a sign, ":=" goes before "=".
_WORD = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:\\.|[^"\\\n])*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:\\[^\n]+?|[^'\\\n])')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+
          |(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
      | (?P<field>\.[^\W\d]\w*)
      | (?P<variable>\$\w*)
      | (?P<word>[^\W\d]\w*)
      | (?P<declare>:=)
      | (?P<assign>=)
      | (?P<dot>\.)
      | (?P<pipe>\|)
      | (?P<comma>,)
      | (?P<open>\()
      | (?P<close>\))""",
    re.VERBOSE,
)
_UNTERMINATED = {
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
}


class Token:
    """One token: its kind, its text, its position (characters) and line (from 1)."""

    __slots__ = ("kind", "line", "position", "value")

    def __init__(self, kind: str, value: str, position: int, line: int) -> None:
        self.kind = kind
        self.value = value
        self.position = position
        self.line = line


def tokens(source: str) -> list[Token]:
    """All tokens of a template, ``eof`` last.

    Kinds: ``text``, ``left`` and ``right`` for the delimiters, ``keyword``,
    ``word``, ``constant`` (true, false), ``nil`` and the group names above.

    :raises TemplateError: for an action or a literal that does not end.
    """
    found: list[Token] = []
    position = 0
    trim = False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        _add_text(found, source, text, position, trim, _trims_left(source, start))
        if start < 0:
            found.append(Token("eof", "", len(source), _line(source, len(source))))
            return found
        position, trim = _action(found, source, start)


def fail(line: int, message: str) -> TemplateError:
    """The error for a malformed template, in Go's words."""
    return TemplateError(f":{line}: {message}")


def _add_text(
    found: list[Token], source: str, text: str, position: int, trim: bool, trim_end: bool
) -> None:
    if trim:
        text = text.lstrip(" \t\r\n")
    if trim_end:
        text = text.rstrip(" \t\r\n")
    if text:
        found.append(Token("text", text, position, _line(source, position)))


def _trims_left(source: str, start: int) -> bool:
    return start >= 0 and source[start + 2 : start + 3] == "-" and source[start + 3 :][:1].isspace()


def _action(found: list[Token], source: str, start: int) -> tuple[int, bool]:
    """Reads one action or comment; where it ends, and whether it trims what follows."""
    line = _line(source, start)
    position = start + (3 if _trims_left(source, start) else 2)
    comment = position + (1 if position == start + 3 else 0)
    if source.startswith("/*", comment):
        return _comment(source, comment, line)
    found.append(Token("left", "{{", start, line))
    while True:
        end, trim = _right_delimiter(source, position)
        if end:
            found.append(Token("right", "}}", position, _line(source, position)))
            return end, trim
        position = _word(found, source, position)


def _comment(source: str, position: int, line: int) -> tuple[int, bool]:
    end = source.find("*/", position + 2)
    if end < 0:
        raise fail(line, "unclosed comment")
    after, trim = _right_delimiter(source, end + 2)
    if not after:
        raise fail(line, "comment ends before closing delimiter")
    return after, trim


def _right_delimiter(source: str, position: int) -> tuple[int, bool]:
    """The position after a closing delimiter that stands here, 0 if none does."""
    if source.startswith("}}", position):
        return position + 2, False
    if source[position : position + 1].isspace() and source.startswith("-}}", position + 1):
        return position + 4, True
    return 0, False


def _word(found: list[Token], source: str, position: int) -> int:
    line = _line(source, position)
    if position >= len(source):
        raise fail(line, "unclosed action")
    match = _WORD.match(source, position)
    if match is None:
        where = "command" if found[-1].kind == "left" else "operand"
        raise fail(line, _bad_character(source[position], where))
    kind, value = str(match.lastgroup), match.group()
    if kind == "word":
        kind = _word_kind(value)
    if kind == "space":
        # " -}}" belongs to the delimiter, however many blanks stand before it.
        end = match.end()
        return end - 1 if source.startswith("-}}", end) and match.end() - position > 1 else end
    found.append(Token(kind, value, position, line))
    return match.end()


def _word_kind(value: str) -> str:
    if value in KEYWORDS:
        return "keyword"
    if value in ("true", "false"):
        return "constant"
    return "nil" if value == "nil" else "word"


def _bad_character(character: str, where: str) -> str:
    if character in _UNTERMINATED:
        return _UNTERMINATED[character]
    if character in "{}":
        return f"bad character U+{ord(character):04X} '{character}'"
    return f'unexpected "{character}" in {where}'


def _line(source: str, position: int) -> int:
    return source.count("\n", 0, position) + 1
