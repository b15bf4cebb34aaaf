"""Reading flags and arguments as pflag does."""

from __future__ import annotations

import pytest

from cnm.cli.command import Call, Command, Flag, parse
from cnm.cli.errors import CommandError

COMMAND = Command(
    lambda call: 0,
    "Try flags",
    usage="[OPTIONS] A B",
    flags=(
        Flag("quiet", "bool", "", short="q"),
        Flag("all", "bool", "", short="a"),
        Flag("driver", "string", "", short="d"),
        Flag("subnet", "strings", ""),
        Flag("label", "list", ""),
        Flag("opt", "map", "", short="o"),
        Flag("filter", "filter", "", short="f"),
        Flag("number", "int", ""),
        Flag("odd", "list", "", check=lambda value: "" if len(value) % 2 else "even length"),
    ),
    maximum=None,
)


def read(*words: str) -> Call:
    call = parse(COMMAND, "cnm try", "unix:///x", words)
    assert call is not None
    return call


def test_flags_and_arguments_in_any_order() -> None:
    call = read("x", "--driver", "bridge", "y", "-q", "--", "-z", "--quiet")
    assert call.arguments == ["x", "y", "-z", "--quiet"]
    assert call.string("driver") == "bridge"
    assert call.switch("quiet")
    assert not call.switch("all")
    assert call.switch("all", default=True)


@pytest.mark.parametrize(
    "words",
    [
        ("-d", "b"),
        ("-db",),
        ("-d=b",),
        ("--driver", "b"),
        ("--driver=b",),
        ("-qd", "b"),
        ("-qadb",),
    ],
)
def test_ways_to_give_a_value(words: tuple[str, ...]) -> None:
    assert read(*words).string("driver") == "b"


@pytest.mark.parametrize(
    ("word", "value"),
    [("-q", True), ("--quiet=false", False), ("-q=0", False), ("--quiet=T", True)],
)
def test_switches(word: str, value: bool) -> None:
    call = read(word)
    assert call.given("quiet")
    assert call.switch("quiet") is value


def test_repeated_flags() -> None:
    words = [
        "--subnet",
        "a,b",
        "--subnet",
        '"c,d"',
        "--subnet=",
        "--label",
        "a,b",
        "--label",
        "k=v",
    ]
    call = read(*words, "-o", "a=1", "-o", "b", "-o", "a=2=3", "-d", "x", "-d", "y")
    assert call.strings("subnet") == ["a", "b", "c,d"]
    assert call.strings("label") == ["a,b", "k=v"]
    assert call.mapping("opt") == {"a": "2=3", "b": ""}
    assert call.string("driver") == "y"


def test_values_that_look_like_flags() -> None:
    call = read("-d", "-q", "--number", "-5", "-")
    assert call.string("driver") == "-q"
    assert call.integer("number") == -5
    assert call.arguments == ["-"]


def test_filters() -> None:
    assert read().filters() is None
    call = read("-f", "NAME = b", "-f", "name=a", "-f", "label=k=v")
    assert call.filters() == '{"label":{"k=v":true},"name":{"a":true,"b":true}}'


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("x", "--help")])
def test_help_is_asked_for(words: tuple[str, ...]) -> None:
    assert parse(COMMAND, "cnm try", "", words) is None


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("--bad", "unknown flag: --bad"),
        ("--bad=x", "unknown flag: --bad"),
        ("-qz", "unknown shorthand flag: 'z' in -qz"),
        ("--driver", "flag needs an argument: --driver"),
        ("-qd", "flag needs an argument: 'd' in -qd"),
        ("--quiet=maybe", ('invalid argument "maybe" for "-q, --quiet" flag: strconv.ParseBool: '
         'parsing "maybe": invalid syntax')),
        ("--number=x", ('invalid argument "x" for "--number" flag: strconv.ParseInt: parsing "x": '
         "invalid syntax")),
        (f"--number={2**63}", (f'invalid argument "{2**63}" for "--number" flag: strconv.ParseInt: '
         f'parsing "{2**63}": value out of range')),
        ("-fbad", ('invalid argument "bad" for "-f, --filter" flag: bad format of filter '
         "(expected name=value)")),
        ("--odd=ab", 'invalid argument "ab" for "--odd" flag: even length'),
    ],
)  # fmt: skip
def test_refused_flags(word: str, problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        read(word)
    text = str(refused.value)
    assert text.splitlines()[0] == problem
    assert "Usage:  cnm try [OPTIONS] A B\n\nRun 'cnm try --help'" in text
    assert refused.value.status == 125


@pytest.mark.parametrize(
    ("minimum", "maximum", "count", "problem"),
    [
        (0, 0, 1, "accepts no arguments"),
        (1, 1, 0, "requires 1 argument"),
        (1, 1, 2, "requires 1 argument"),
        (2, 2, 1, "requires 2 arguments"),
        (1, None, 0, "requires at least 1 argument"),
        (1, None, 5, ""),
        (2, 2, 2, ""),
    ],
)
def test_number_of_arguments(minimum: int, maximum: int | None, count: int, problem: str) -> None:
    command = Command(lambda call: 0, "", minimum=minimum, maximum=maximum)
    assert command.check_count(count) == problem
