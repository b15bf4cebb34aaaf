"""``--env``, ``--env-file``, ``--label``, ``--label-file``: lists of KEY=VALUE."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cnm.cli.command import Call
from cnm.cli.errors import CommandError

_BLANKS = " \t"
_BOM = "\ufeff"


def environment(call: Call) -> list[str] | None:
    """The files' variables, then those of the flags; None without any.

    One without a value gets ours; a flag's keeps its bare name if we have none.

    :raises CommandError: for a file that cannot be read.
    """
    files = call.strings("env-file")
    lines = [line for path in files for line in _with_values(_read(path))]
    flags = (_own_value(variable) or variable for variable in call.strings("env"))
    return [*lines, *flags] or None


def labels(call: Call) -> dict[str, str]:
    """The files' labels, then those of the flags.

    :raises CommandError: for a file that cannot be read.
    """
    files = call.strings("label-file")
    lines = [line for path in files for line in _read(path) if "=" in line]
    pairs = (line.partition("=") for line in [*lines, *call.strings("label")])
    return {key: value for key, _, value in pairs}


def variable_problem(value: str) -> str:
    """What is wrong with ``--env value``."""
    return f"invalid environment variable: {value}" if not value.partition("=")[0] else ""


def label_problem(value: str) -> str:
    """What is wrong with ``--label value``."""
    key = value.partition("=")[0].lstrip(_BLANKS)
    if not key:
        return f"invalid label '{value}': empty name"
    blank = any(letter in key for letter in _BLANKS)
    return f"label '{key}' contains whitespaces" if blank else ""


def _own_value(variable: str) -> str | None:
    """``KEY=VALUE`` for a bare ``KEY`` that we have; None if we have not."""
    if "=" in variable:
        return variable
    value = os.environ.get(variable)
    return None if value is None else f"{variable}={value}"


def _with_values(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        whole = _own_value(line)
        if whole is not None:
            yield whole


def _read(path: str) -> list[str]:
    """A file's lines without comments and empty ones; blanks before a key are dropped."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise CommandError(f"invalid env file ({path}): it is not UTF-8") from None
    except OSError as error:
        raise unreadable(path, error) from None
    lines = (line.removesuffix("\r").lstrip() for line in text.removeprefix(_BOM).split("\n"))
    kept = [line for line in lines if line and not line.startswith("#")]
    for line in kept:
        problem = _line_problem(line)
        if problem:
            raise CommandError(f"invalid env file ({path}): {problem}")
    return kept


def _line_problem(line: str) -> str:
    key = line.partition("=")[0]
    if not key:
        return f"no variable name on line '{line}'"
    blank = any(letter in key for letter in _BLANKS)
    return f"variable '{key}' contains whitespaces" if blank else ""


def unreadable(path: str, error: OSError) -> CommandError:
    """A file cannot be opened, in Docker's words."""
    return CommandError(f"open {path}: {(error.strerror or str(error)).lower()}")
