"""What a command is: its flags, its arguments, what runs it; and reading its words.

Flags follow pflag, which Docker's commands use: ``--name value``, ``--name=value``,
``-d value``, ``-dvalue``, ``-d=value``, clustered switches (``-qf``), flags and
arguments in any order, ``--`` ends the flags. Error texts are pflag's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnm.cli.errors import CommandError, FlagError

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Flag:
    """A flag. ``kind`` is what follows it, as the help shows it.

    ``bool``: nothing, or ``=false``. ``string``, ``int``: once, the last one counts.
    ``strings``: any number of times, commas separate. ``list``, ``map``, ``filter``:
    any number of times, commas do not; so do the other kinds, whose values ``check`` reads.
    ``check`` returns what is wrong with a value, empty if nothing is; ``names`` says what
    completes it: networks, containers, drivers. ``same_as`` is the flag that an old
    spelling stands for; it is not shown.
    """

    __slots__ = ("check", "default", "help", "kind", "name", "names", "same_as", "short")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        short: str = "",
        default: str = "",
        check: Callable[[str], str] | None = None,
        names: str = "",
        same_as: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.default = default
        self.check = check
        self.names = names
        self.same_as = same_as

    def shown(self) -> str:
        """``-f, --filter``, as errors name the flag."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Call:
    """One use of a command: its path (``net ls``), its words, and the daemon's address."""

    __slots__ = ("_given", "arguments", "host", "path")

    def __init__(self, path: str, host: str, arguments: Sequence[str], given: Given) -> None:
        self.path = path
        self.host = host
        self.arguments = arguments
        self._given = given

    def given(self, name: str) -> bool:
        """Whether the flag was used at all."""
        return name in self._given

    def switch(self, name: str, default: bool = False) -> bool:
        """The value of a bool flag."""
        values = self._given.get(name)
        return values[-1] in TRUE if values else default

    def string(self, name: str, default: str = "") -> str:
        """The value of a string flag."""
        values = self._given.get(name)
        return values[-1] if values else default

    def integer(self, name: str, default: int = 0) -> int:
        """The value of an int flag."""
        values = self._given.get(name)
        return int(values[-1], 0) if values else default

    def strings(self, name: str) -> list[str]:
        """All values of a flag that can be repeated."""
        return list(self._given.get(name, ()))

    def mapping(self, name: str) -> dict[str, str]:
        """The values ``k=v`` of a flag as a mapping; without ``=`` the value is empty."""
        pairs = (value.partition("=") for value in self.strings(name))
        return {key: value for key, _, value in pairs}

    def filters(self) -> str | None:
        """The ``--filter`` flags as the API wants them; None without any."""
        chosen: dict[str, dict[str, bool]] = {}
        for key, value in (item.split("=", 1) for item in self.strings("filter")):
            chosen.setdefault(key.strip().lower(), {})[value.strip()] = True
        if not chosen:
            return None
        import json

        return json.dumps(chosen, separators=(",", ":"), sort_keys=True)


Given = dict[str, list[str]]


class Command:
    """A verb: what it is called with and what it does.

    ``usage`` is what follows its path in the usage line; ``maximum`` None: any number
    of arguments. ``run`` returns the exit status. ``names`` says what completes each
    argument (the last one repeats). ``examples`` are command lines without the program.
    ``interspersed`` False: the first argument ends the flags, so that a command to run
    has its own.
    """

    __slots__ = (
        "examples",
        "flags",
        "interspersed",
        "maximum",
        "minimum",
        "names",
        "run",
        "short",
        "usage",
    )

    def __init__(
        self,
        run: Callable[[Call], int],
        short: str,
        *,
        usage: str = "",
        flags: Sequence[Flag] = (),
        minimum: int = 0,
        maximum: int | None = 0,
        names: Sequence[str] = (),
        examples: Sequence[str] = (),
        interspersed: bool = True,
    ) -> None:
        self.run = run
        self.short = short
        self.usage = usage
        self.flags = (*flags, HELP)
        self.minimum = minimum
        self.maximum = maximum
        self.names = names
        self.examples = examples
        self.interspersed = interspersed

    def check_count(self, count: int) -> str:
        """What is wrong with this number of arguments; empty if nothing is."""
        if self.maximum is None:
            if count >= self.minimum:
                return ""
            return f"requires at least {self.minimum} argument{_plural(self.minimum)}"
        if self.minimum <= count <= self.maximum:
            return ""
        if not self.maximum:
            return "accepts no arguments"
        if not self.minimum:
            return f"requires at most {self.maximum} argument{_plural(self.maximum)}"
        if self.minimum < self.maximum:
            return f"requires at least {self.minimum} and at most {self.maximum} arguments"
        return f"requires {self.maximum} argument{_plural(self.maximum)}"


def _plural(number: int) -> str:
    return "" if number == 1 else "s"


HELP = Flag("help", "bool", "Print this help")


class Words:
    """Splits a command's words into flags and arguments.

    ``interspersed``: flags may follow arguments; without it the first argument ends
    the flags, as between a program and its subcommand.
    """

    def __init__(self, flags: Sequence[Flag], interspersed: bool = True) -> None:
        self._long = {flag.name: flag for flag in flags}
        self._short = {flag.short: flag for flag in flags if flag.short}
        self._interspersed = interspersed
        self.given: Given = {}
        self.arguments: list[str] = []

    def read(self, words: Sequence[str]) -> None:
        """Fills ``given`` and ``arguments``.

        :raises FlagError: for the first flag that cannot be read.
        """
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                self.arguments += rest
                return
            if word.startswith("--"):
                self._read_long(word[2:], rest)
            elif word.startswith("-") and word != "-":
                self._read_short(word[1:], rest)
            else:
                self.arguments.append(word)
                if not self._interspersed:
                    self.arguments += rest
                    return

    def _read_long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word.partition("=")
        flag = self._long.get(name)
        if flag is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif not rest:
                raise FlagError(f"flag needs an argument: --{name}")
            else:
                value = rest.pop(0)
        self._set(flag, value)

    def _read_short(self, letters: str, rest: list[str]) -> None:
        whole = letters
        while letters:
            flag = self._short.get(letters[0])
            if flag is None and letters[0] == "h":
                flag = self._long.get("help")
            if flag is None:
                raise FlagError(f"unknown shorthand flag: '{letters[0]}' in -{whole}")
            letter, letters = letters[0], letters[1:]
            if letters.startswith("="):
                value, letters = letters[1:], ""
            elif flag.kind == "bool":
                value = "true"
            elif letters:
                value, letters = letters, ""
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: '{letter}' in -{whole}")
            self._set(flag, value)

    def _set(self, flag: Flag, value: str) -> None:
        problem = _problem(flag, value)
        if problem:
            raise FlagError(f'invalid argument "{value}" for "{flag.shown()}" flag: {problem}')
        values = comma_separated(value) if flag.kind == "strings" else [value]
        self.given.setdefault(flag.same_as or flag.name, []).extend(values)


def _problem(flag: Flag, value: str) -> str:
    """What is wrong with a flag's value; empty if nothing is."""
    if flag.kind == "bool" and value not in TRUE + FALSE:
        return f'strconv.ParseBool: parsing "{value}": invalid syntax'
    if flag.kind == "int":
        return _integer_problem(value)
    if flag.kind == "filter" and "=" not in value:
        return "bad format of filter (expected name=value)"
    return flag.check(value) if flag.check else ""


def _integer_problem(value: str) -> str:
    try:
        number = int(value, 0)
    except ValueError:
        return f'strconv.ParseInt: parsing "{value}": invalid syntax'
    if not -(2**63) <= number < 2**63:
        return f'strconv.ParseInt: parsing "{value}": value out of range'
    return ""


def comma_separated(value: str) -> list[str]:
    """The parts between commas, as CSV: quotes protect a comma. Nothing gives nothing."""
    if '"' not in value:
        return value.split(",") if value else []
    import csv

    return next(csv.reader([value]), [])


def parse(command: Command, path: str, host: str, words: Sequence[str]) -> Call | None:
    """The call that the words make; None when they ask for help.

    :raises FlagError: for a flag that is unknown or malformed.
    :raises CommandError: for too few or too many arguments.
    """
    reader = Words(command.flags, command.interspersed)
    try:
        reader.read(words)
    except FlagError as error:
        raise FlagError(f"{error}\n{hint(path, command, 'Run')}") from None
    call = Call(path, host, reader.arguments, reader.given)
    if call.switch("help"):
        return None
    problem = command.check_count(len(reader.arguments))
    if problem:
        program = path.split(" ", 1)[0]
        verb = "See" if command.maximum is None else "Run"
        raise CommandError(f"{program}: '{path}' {problem}\n{hint(path, command, verb)}")
    return call


def hint(path: str, command: Command, verb: str) -> str:
    """The usage line and where to read more, printed below an error."""
    usage = f"{path} {command.usage}".rstrip()
    return f"\nUsage:  {usage}\n\n{verb} '{path} --help' for more information"
