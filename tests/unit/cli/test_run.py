"""``cnm run|start|attach|exec`` against a container whose process the test plays.

The commands are processes of their own: what they read, write and are signalled counts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.cli.containing import EXEC, STDERR, Containing, Process, Streams

IDENTIFIER = "c" * 64
_PATIENCE_S = 30.0
_MAIN = "import sys; from cnm.cli.main import main; sys.exit(main())"

Begin = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containing]:
    """A server with one container."""
    folder: Path = tmp_path_factory.mktemp("s")  # short: paths of sockets are limited
    containing = Containing(folder / "s")
    yield containing
    containing.close()


@pytest.fixture
def begin(container: Containing) -> Iterator[Begin]:
    """Starts ``cnm …`` with pipes for its streams."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "-H", container.host, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes], fed: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status, output and error output at the end."""
    out, err = process.communicate(fed, _PATIENCE_S)
    return process.returncode, out, err


def speaking(streams: Streams) -> int:
    """Says something on both streams."""
    streams.say(b"out")
    streams.say(b"err", STDERR)
    streams.say(b"put\n")
    return 3


def raw_line(streams: Streams) -> int:
    """Says a line as a terminal would pass it on."""
    streams.say(b"a\x01\r\n")
    return 0


def listening(streams: Streams) -> int:
    """Says that it listens, and does."""
    streams.say(b"ready\n")
    return len(streams.hear_all())


def echoing(streams: Streams) -> int:
    """``cat``: gives back what it hears, as it comes."""
    while heard := streams.hear():
        streams.say(heard)
    return 0


def test_run(container: Containing, begin: Begin) -> None:
    container.process = speaking
    assert ended(begin("run", "x")) == (3, b"output\n", b"err")
    assert container.paths() == [
        "POST /containers/create",
        "POST /containers/ID/attach?stderr=1&stdout=1&stream=1",
        "POST /containers/ID/wait?condition=next-exit",
        "POST /containers/ID/start",
    ]


def test_run_detached(container: Containing, begin: Begin) -> None:
    assert ended(begin("run", "-d", "--name", "c1", "x")) == (0, f"{IDENTIFIER}\n".encode(), b"")
    assert container.paths() == [
        "POST /containers/create?name=c1",
        "POST /containers/ID/wait?condition=next-exit",
        "POST /containers/ID/start",
    ]


def test_run_and_remove(container: Containing, begin: Begin) -> None:
    assert ended(begin("run", "--rm", "x")) == (0, b"", b"")
    assert "POST /containers/ID/wait?condition=removed" in container.paths()


def test_run_terminal_without_ours(container: Containing, begin: Begin) -> None:
    container.process = raw_line
    container.tty = True
    assert ended(begin("run", "-t", "x")) == (0, b"a\x01\r\n", b"")
    assert ended(begin("run", "-it", "x")) == (1, b"", b"the input device is not a TTY\n")


def test_input_goes_to_its_end(container: Containing, begin: Begin) -> None:
    """A half close ends the process's input, and its answer still comes."""

    def counting(streams: Streams) -> int:
        streams.say(b"%d\n" % len(streams.hear_all()))
        return 0

    container.process = counting
    assert ended(begin("run", "-i", "x"), b"z" * 3_000_000) == (0, b"3000000\n", b"")


def test_filters_do_not_lock(container: Containing, begin: Begin) -> None:
    """More than all buffers hold, both ways at once."""
    container.process = echoing
    fed = bytes(range(256)) * 20_000
    assert ended(begin("run", "-i", "x"), fed) == (0, fed, b"")


def test_no_input_from_the_beginning(container: Containing, begin: Begin) -> None:
    container.process = lambda streams: len(streams.hear_all())
    process = begin("run", "x")
    assert process.wait(_PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "nope": executable file not found in $PATH: unknown', 127),
        ("exec /x: no such file or directory", 127),
        ('exec: "/etc": is a directory: permission denied: unknown', 126),
        ("driver failed programming external connectivity", 125),
    ],
)
def test_start_fails(container: Containing, begin: Begin, message: str, status: int) -> None:
    container.refusals["start"] = (400, message)
    problem = f"cnm: Error response from daemon: {message}\n\n"
    more = "Run 'cnm run --help' for more information\n"
    assert ended(begin("run", "x")) == (status, b"", f"{problem}{more}".encode())
    done = ended(begin("run", "-d", "x"))
    assert done == (status, f"{IDENTIFIER}\n".encode(), f"{problem}{more}".encode())


def test_attach_fails(container: Containing, begin: Begin) -> None:
    container.refusals["attach"] = (409, "container is gone")
    problem = b"Error response from daemon: container is gone\n"
    assert ended(begin("run", "x")) == (1, b"", problem)


def test_wait_fails(container: Containing, begin: Begin) -> None:
    container.wait_error = "lost it"
    problem = b"Error waiting for container: lost it\n"
    assert ended(begin("run", "x")) == (125, b"", problem)


def test_no_daemon(begin: Begin) -> None:
    status, _, err = ended(begin("-H", "unix:///nonexistent/s", "run", "x"))
    assert status == 125
    assert err.startswith(b"cnm: Cannot connect to the cnm daemon at unix:///nonexistent/s. ")


def until_signalled(container: Containing, wanted: str) -> Process:
    """A process that ends when it is killed with ``wanted``."""

    def process(streams: Streams) -> int:
        streams.say(b"ready\n")
        container.wait_for(f"POST /containers/ID/kill?signal={wanted}")
        return 7

    return process


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGTSTP, "TSTP"), (40, "40")],
)
def test_signals_go_to_the_process(
    container: Containing, begin: Begin, number: int, name: str
) -> None:
    container.process = until_signalled(container, name)
    process = begin("run", "x")
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert ended(process) == (7, b"", b"")


def test_signals_stay(container: Containing, begin: Begin) -> None:
    container.process = listening
    process = begin("run", "--sig-proxy=false", "-i", "x")
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(_PATIENCE_S) == -signal.SIGTERM


def test_reader_gone(container: Containing, begin: Begin) -> None:
    def endless(streams: Streams) -> int:
        while True:
            streams.say(b"y\n" * 1000)

    container.process = endless
    process = begin("run", "x")
    assert process.stdout
    process.stdout.close()
    assert process.wait(_PATIENCE_S) == 141


def test_start(container: Containing, begin: Begin) -> None:
    assert ended(begin("start", "c1", "c2")) == (0, b"c1\nc2\n", b"")
    container.refusals["start"] = (500, "no")
    problem = "Error response from daemon: no\n"
    failed = "Error: failed to start containers: c1, c2\n"
    assert ended(begin("start", "c1", "c2")) == (1, b"", f"{problem * 2}{failed}".encode())


@pytest.mark.parametrize(("remove", "condition"), [(False, "next-exit"), (True, "removed")])
def test_start_attached(container: Containing, begin: Begin, remove: bool, condition: str) -> None:
    container.process = echoing
    container.auto_remove = remove
    assert ended(begin("start", "-ai", "c1"), b"hi") == (0, b"hi", b"")
    assert container.paths() == [
        "GET /containers/c1/json",
        "POST /containers/ID/attach?stderr=1&stdin=1&stdout=1&stream=1",
        f"POST /containers/ID/wait?condition={condition}",
        "POST /containers/ID/start",
    ]
    assert ended(begin("start", "-a", "c1", "c2")) == (
        1,
        b"",
        b"you cannot start and attach multiple containers at once\n",
    )


def test_attach(container: Containing, begin: Begin) -> None:
    container.process = lambda streams: 5 if streams.hear_all() == b"hi" else 1
    ended(begin("start", "c1"))
    assert ended(begin("attach", "c1"), b"hi") == (5, b"", b"")
    assert container.paths()[1:] == [
        "POST /containers/c1/wait",
        "GET /containers/c1/json",
        "POST /containers/c1/attach?stderr=1&stdin=1&stdout=1&stream=1",
        "GET /containers/c1/json",
    ]
    stopped = b"You cannot attach to a stopped container, start it first\n"
    assert ended(begin("attach", "c1")) == (1, b"", stopped)


def test_exec(container: Containing, begin: Begin) -> None:
    container.process = echoing
    assert ended(begin("exec", "-i", "c1", "sh", "-c", "x"), b"hi") == (0, b"hi", b"")
    assert container.paths() == [
        "GET /containers/c1/json",
        "POST /containers/c1/exec",
        f"POST /exec/{EXEC}/start",
        f"GET /exec/{EXEC}/json",
    ]
    assert container.requests[1].body == {
        "User": "",
        "Privileged": False,
        "Tty": False,
        "AttachStdin": True,
        "AttachStderr": True,
        "AttachStdout": True,
        "Detach": False,
        "DetachKeys": "",
        "Env": None,
        "WorkingDir": "",
        "Cmd": ["sh", "-c", "x"],
    }
    assert container.requests[2].body == {"Detach": False, "Tty": False}


def test_exec_status_and_streams(container: Containing, begin: Begin) -> None:
    container.process = speaking
    assert ended(begin("exec", "c1", "x")) == (3, b"output\n", b"err")
    assert ended(begin("exec", "-it", "c1", "x")) == (1, b"", b"the input device is not a TTY\n")


def test_exec_detached(container: Containing, begin: Begin) -> None:
    words = ("exec", "-d", "-e", "A=1", "-w", "/", "-u", "1", "--privileged", "c1", "x")
    assert ended(begin(*words)) == (0, b"", b"")
    body = container.requests[1].body
    assert (body["Detach"], body["AttachStdout"], body["AttachStdin"]) == (True, False, False)
    assert (body["Env"], body["WorkingDir"], body["User"]) == (["A=1"], "/", "1")
    assert container.requests[2].body == {"Detach": True, "Tty": False}


def test_exec_without_container(container: Containing, begin: Begin) -> None:
    container.refusals["json"] = (404, "No such container: c1")
    problem = b"Error response from daemon: No such container: c1\n"
    assert ended(begin("exec", "c1", "x")) == (1, b"", problem)
    assert container.paths() == ["GET /containers/c1/json"]


def test_closed_streams(container: Containing) -> None:
    """Standard input may be missing altogether."""
    container.process = lambda streams: len(streams.hear_all())
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -c '{_MAIN}' -H {container.host} run -i x <&-"],
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
        env=os.environ,
    )
    assert (done.returncode, done.stderr) == (0, b"")
