"""The instructions of ``cnm import --change``: those of Docker's import. No I/O.

Source: Docker's manual, "docker image import" and the Dockerfile reference (parsing,
replacement of variables). HEALTHCHECK and ONBUILD are refused: this runtime has
neither health checks nor builds.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cnm.errors import InvalidParameter
from cnm.imageapi import ImageConfig
from cnm.runtime.container.archive import shown

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^}]*))?\}")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_REAL_TIME = re.compile(r"(SIG)?RTM(IN(\+\d{1,2})?|AX(-\d{1,2})?)", re.ASCII)
_LARGEST_SIGNAL = 64


def apply_changes(changes: Sequence[str]) -> ImageConfig:
    """The configuration that the instructions make, in order.

    :raises InvalidParameter: an instruction is unknown or malformed.
    """
    config = ImageConfig()
    for change in changes:
        for line in change.splitlines():
            if line.strip():
                config = _apply(config, line.strip())
    return config


def _apply(config: ImageConfig, line: str) -> ImageConfig:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        raise InvalidParameter(f"{_clean(word)} is not a valid change command")
    if not rest:
        raise InvalidParameter(f"{word.upper()} requires at least one argument")
    return instruction(config, rest)


def _cmd(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, cmd=_command(rest))


def _entrypoint(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, entrypoint=_command(rest))


def _env(config: ImageConfig, rest: str) -> ImageConfig:
    wanted = _pairs("ENV", rest, config)
    kept = [item for item in config.env if item.partition("=")[0] not in wanted]
    return replace(config, env=(*kept, *(f"{name}={value}" for name, value in wanted.items())))


def _label(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, labels={**config.labels, **_pairs("LABEL", rest, config)})


def _expose(config: ImageConfig, rest: str) -> ImageConfig:
    ports = dict.fromkeys(config.exposed_ports)
    for word in _words(rest, _variables(config)):
        ports.update(dict.fromkeys(_ports(word)))
    return replace(config, exposed_ports=tuple(ports))


def _user(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, user=_one("USER", rest, config))


def _workdir(config: ImageConfig, rest: str) -> ImageConfig:
    """An absolute path stays as it was written, as with Docker; others follow the last one."""
    path = _one("WORKDIR", rest, config)
    if not path.startswith("/"):
        path = posixpath.normpath(posixpath.join("/", config.working_dir, path))
    return replace(config, working_dir=path)


def _volume(config: ImageConfig, rest: str) -> ImageConfig:
    paths = _json_list(rest)
    if paths is None:
        paths = tuple(_words(rest, _variables(config)))
    if not all(paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return replace(config, volumes=tuple(dict.fromkeys((*config.volumes, *paths))))


def _stop_signal(config: ImageConfig, rest: str) -> ImageConfig:
    name = _one("STOPSIGNAL", rest, config)
    known = {item.name for item in signal.Signals}
    by_name = f"SIG{name.upper().removeprefix('SIG')}" in known or _REAL_TIME.fullmatch(name)
    by_number = name.isascii() and name.isdigit() and 1 <= int(name[:4]) <= _LARGEST_SIGNAL
    if not by_name and not by_number:
        raise InvalidParameter(f"Invalid signal: {_clean(name)}")
    return replace(config, stop_signal=name)


_INSTRUCTIONS: Mapping[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _command(rest: str) -> tuple[str, ...]:
    """A JSON list, or else a line for the shell."""
    listed = _json_list(rest)
    return listed if listed is not None else ("/bin/sh", "-c", rest)


def _json_list(rest: str) -> tuple[str, ...] | None:
    try:
        value = json.loads(rest) if rest.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


def _one(instruction: str, rest: str, config: ImageConfig) -> str:
    words = _words(rest, _variables(config))
    if len(words) != 1 or not words[0]:
        raise InvalidParameter(f"{instruction} requires exactly one argument")
    return words[0]


def _pairs(instruction: str, rest: str, config: ImageConfig) -> dict[str, str]:
    """``NAME=value …``, or the old ``NAME value`` that takes the rest of the line."""
    variables = _variables(config)
    first, _, old_value = rest.partition(" ")
    if "=" not in first:
        if not old_value:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return {_expand(first, variables): _expand(old_value.strip(), variables)}
    found = {}
    for word in _words(rest, variables):
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f"Syntax error - can't find = in {shown(word)}. Must be of the form: name=value"
            )
        if not name:
            raise InvalidParameter(f"{instruction} names can not be blank")
        found[name] = value
    return found


def _ports(text: str) -> list[str]:
    match = _PORT.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 1 <= first <= last <= 65535:
        raise InvalidParameter(f"Invalid containerPort: {_clean(text)}")
    protocol = (match[3] or "tcp").lower()
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _variables(config: ImageConfig) -> Mapping[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in config.env)}


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """One word with its quotes taken off and its variables replaced, blanks kept."""
    return _Scanner(text, variables).word(stop_at_blank=False)


def _words(text: str, variables: Mapping[str, str]) -> list[str]:
    scanner = _Scanner(text, variables)
    words = []
    while scanner.skip_blanks():
        words.append(scanner.word(stop_at_blank=True))
    return words


class _Scanner:
    """Quotes, backslashes and variables, as a shell reads them."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0

    def skip_blanks(self) -> bool:
        """Whether anything follows."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at < len(self._text)

    def word(self, *, stop_at_blank: bool) -> str:
        """Up to the next blank outside of quotes, or to the end."""
        found: list[str] = []
        quote = ""
        while self._at < len(self._text):
            mark = self._text[self._at]
            if not quote and stop_at_blank and mark.isspace():
                break
            self._at += 1
            if mark == quote or (not quote and mark in "'\""):
                quote = "" if quote else mark
            elif quote != "'" and mark == "\\":
                found.append(self._escaped(quote))
            elif quote != "'" and mark == "$":
                found.append(self._variable())
            else:
                found.append(mark)
        if quote:
            raise InvalidParameter(
                f"unexpected end of statement while looking for matching {quote}"
            )
        return "".join(found)

    def _escaped(self, quote: str) -> str:
        mark = self._text[self._at : self._at + 1]
        self._at += 1
        # inside double quotes only these lose their backslash
        return mark if not quote or mark in '"$\\' else "\\" + mark

    def _variable(self) -> str:
        if braced := _BRACED.match(self._text, self._at):
            self._at = braced.end()
            value = self._variables.get(braced[1], "")
            if braced[2] == ":-":
                return value or braced[3]
            return (braced[3] if value else "") if braced[2] == ":+" else value
        if named := _NAME.match(self._text, self._at):
            self._at = named.end()
            return self._variables.get(named[0], "")
        return "$"


def _clean(text: str) -> str:
    return shown(text)[1:-1]
