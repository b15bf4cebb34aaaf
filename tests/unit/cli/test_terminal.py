"""``-t`` with a real terminal: raw mode, sizes, keys that detach, and the terminal given back.

The command runs on the inner side of a pseudo-terminal; the test types and reads on the
outer one, and asks the kernel for the terminal's settings.
"""

from __future__ import annotations

import signal
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.cli.containing import EXEC, Containing, Streams
from unit.cli.pseudoterminal import Terminal

_DETACH = b"\x10\x11"


@pytest.fixture
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containing]:
    """A server with one container, which has a terminal."""
    folder: Path = tmp_path_factory.mktemp("s")  # short: paths of sockets are limited
    containing = Containing(folder / "s")
    containing.tty = True
    yield containing
    containing.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal."""
    created = Terminal()
    yield created
    created.close()


def shell(streams: Streams) -> int:
    """Prompts, hears a line, says it again, ends."""
    streams.say(b"$ ")
    heard = streams.hear_until(b"\r")
    streams.say(b"<" + heard[:-1] + b">\r\n")
    return 4


def silent(streams: Streams) -> int:
    """Prompts and hears to the end."""
    streams.say(b"$ ")
    streams.hear_all()
    return 0


def test_run(container: Containing, terminal: Terminal) -> None:
    container.process = shell
    terminal.begin(container.host, "run", "-it", "x")
    terminal.read_until(b"$ ")
    assert terminal.look() != terminal.settings
    assert not terminal.look()[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    terminal.type(b"a\x03b\r")  # ctrl-c is a key like any other
    assert terminal.end() == 4
    assert terminal.shown == b"$ <a\x03b>\r\n"
    assert terminal.look() == terminal.settings
    assert container.paths() == [
        "POST /containers/create",
        "POST /containers/ID/attach?stderr=1&stdin=1&stdout=1&stream=1",
        "POST /containers/ID/wait?condition=next-exit",
        "POST /containers/ID/start",
        "POST /containers/ID/resize?h=24&w=80",
    ]
    assert container.requests[0].body["HostConfig"]["ConsoleSize"] == [24, 80]


def test_window_changes(container: Containing, terminal: Terminal) -> None:
    container.process = shell
    terminal.begin(container.host, "run", "-it", "x")
    terminal.read_until(b"$ ")
    terminal.resize(50, 132)
    assert terminal.process
    terminal.process.send_signal(signal.SIGWINCH)
    container.wait_for("POST /containers/ID/resize?h=50&w=132")
    terminal.type(b"x\r")
    assert terminal.end() == 4
    assert not [path for path in container.paths() if "/kill" in path]


def test_detach(container: Containing, terminal: Terminal) -> None:
    container.process = silent
    terminal.begin(container.host, "run", "-it", "x")
    terminal.read_until(b"$ ")
    terminal.type(b"ab" + _DETACH)
    assert terminal.end() == 0
    assert terminal.shown == b"$ "
    assert terminal.look() == terminal.settings


def test_other_detach_keys(container: Containing, terminal: Terminal) -> None:
    heard: list[bytes] = []

    def process(streams: Streams) -> int:
        streams.say(b"$ ")
        heard.append(streams.hear_until(b"\x18y"))
        streams.say(b"! ")
        streams.hear_all()
        return 0

    container.process = process
    terminal.begin(container.host, "run", "-it", "--detach-keys", "ctrl-x,x", "x")
    terminal.read_until(b"$ ")
    terminal.type(_DETACH + b"\x18y")
    terminal.read_until(b"! ")
    terminal.type(b"\x18x")
    assert terminal.end() == 0
    assert heard == [_DETACH + b"\x18y"]
    assert "detachKeys=ctrl-x%2Cx&" in container.paths()[1]


@pytest.mark.parametrize("words", [("attach", "c1"), ("exec", "-it", "c1", "sh")])
def test_detach_is_told(container: Containing, terminal: Terminal, words: tuple[str, ...]) -> None:
    """As Docker: of these two, the keys are an error."""
    container.process = silent
    container.start()
    terminal.begin(container.host, *words)
    terminal.read_until(b"$ ")
    terminal.type(_DETACH)
    assert terminal.end() == 1
    assert terminal.shown == b"$ read escape sequence\r\n"
    assert terminal.look() == terminal.settings


def test_start_detached(container: Containing, terminal: Terminal) -> None:
    container.process = silent
    terminal.begin(container.host, "start", "-ai", "c1")
    terminal.read_until(b"$ ")
    terminal.type(_DETACH)
    assert terminal.end() == 0
    assert "POST /containers/ID/resize?h=24&w=80" in container.paths()


def test_attach_draws_anew(container: Containing, terminal: Terminal) -> None:
    container.process = shell
    container.start()
    terminal.begin(container.host, "attach", "c1")
    terminal.read_until(b"$ ")
    terminal.type(b"x\r")
    assert terminal.end() == 4
    resized = [path for path in container.paths() if "/resize" in path]
    assert resized == [
        "POST /containers/c1/resize?h=25&w=81",
        "POST /containers/c1/resize?h=24&w=80",
    ]


def test_exec(container: Containing, terminal: Terminal) -> None:
    container.process = shell
    terminal.begin(container.host, "exec", "-it", "c1", "sh")
    terminal.read_until(b"$ ")
    assert terminal.look() != terminal.settings
    terminal.type(b"x\r")
    assert terminal.end() == 4
    assert terminal.look() == terminal.settings
    assert container.requests[1].body["ConsoleSize"] == [24, 80]
    wanted = {"Detach": False, "Tty": True, "ConsoleSize": [24, 80]}
    assert container.requests[2].body == wanted
    assert f"POST /exec/{EXEC}/resize?h=24&w=80" in container.paths()


def test_start_fails(container: Containing, terminal: Terminal) -> None:
    container.refusals["start"] = (400, "executable file not found")
    terminal.begin(container.host, "run", "-it", "x")
    assert terminal.end() == 127
    assert terminal.shown.startswith(b"cnm: Error response from daemon: executable file not found")
    assert terminal.look() == terminal.settings


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ("exec", "-it", "c1", "sh")),
        (signal.SIGHUP, ("attach", "c1")),
        (signal.SIGQUIT, ("run", "--sig-proxy=false", "-it", "x")),
    ],
)
def test_ended_by_a_signal(
    container: Containing, terminal: Terminal, number: signal.Signals, words: tuple[str, ...]
) -> None:
    container.process = silent
    if words[0] == "attach":
        container.start()
    terminal.begin(container.host, *words)
    terminal.read_until(b"$ ")
    assert terminal.process
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert terminal.look() == terminal.settings


def test_daemon_gone(container: Containing, terminal: Terminal) -> None:
    """The connection breaks off: the terminal is given back."""
    hung_up: list[Callable[[], None]] = []

    def process(streams: Streams) -> int:
        streams.say(b"$ ")
        hung_up.append(streams.hang_up)
        streams.hear_all()
        return 0

    container.process = process
    terminal.begin(container.host, "run", "-it", "x")
    terminal.read_until(b"$ ")
    hung_up[0]()
    assert terminal.end() == 0
    assert terminal.look() == terminal.settings
