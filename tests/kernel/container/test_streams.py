"""Attach, terminals, input and its end, slow readers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from kernel.container.stage import Stage, frames, joined, until
from livedaemon import run

from cnm.runtimeapi import ContainerSpec, LogOptions

pytestmark = pytest.mark.kernel


def rest(stream: socket.socket) -> bytes:
    """All until the other side closes."""
    stream.settimeout(20)
    return b"".join(iter(lambda: stream.recv(65536), b""))


def read_until(stream: socket.socket, wanted: bytes) -> bytes:
    stream.settimeout(20)
    data = b""
    while wanted not in data:
        piece = stream.recv(4096)
        assert piece, data
        data += piece
    return data


def names(stage: Stage, spec: ContainerSpec) -> list[str]:
    """The commands that run in a container."""
    found = [Path(f"/proc/{pid}/comm") for pid in stage.runtime.processes(spec.id)]
    return [path.read_text().strip() for path in found if path.exists()]


def send_all(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


def attach(stage: Stage, spec: ContainerSpec, **options: bool) -> socket.socket:
    wanted = {"stdin": True, "stdout": True, "stderr": True, **options}
    return stage.runtime.attach(spec.id, **wanted)


def test_attached_before_the_start_nothing_is_missed(stage: Stage) -> None:
    spec = stage.spec("sh", "-c", "echo out; echo err >&2")
    stage.runtime.create(spec)
    with attach(stage, spec) as both, attach(stage, spec, stdout=False) as errors:
        stage.runtime.start(spec.id)
        data = rest(both)
        assert (joined(data, 1), joined(data, 2)) == (b"out\n", b"err\n")
        assert frames(rest(errors)) == [(2, b"err\n")]


def test_input_and_its_end(stage: Stage) -> None:
    spec = stage.spec("sh", "-c", "cat; echo end", open_stdin=True)
    stage.runtime.create(spec)
    data = os.urandom(3_000_000)
    with attach(stage, spec) as stream:
        stage.runtime.start(spec.id)
        writer = threading.Thread(target=send_all, args=(stream, data))
        writer.start()
        got = joined(rest(stream), 1)
        writer.join(20)
    assert got == data + b"end\n"
    assert stage.runtime.wait(spec.id) == 0


def test_input_that_stays_open_takes_several(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "read a; read b; echo $a $b", open_stdin=True, stdin_once=False)
    for word in (b"one\n", b"two\n"):
        with attach(stage, spec, stdout=False, stderr=False) as stream:
            stream.sendall(word)
    assert stage.runtime.wait(spec.id) == 0
    assert stage.output(spec) == "one two\n"


def test_without_open_stdin_there_is_none(stage: Stage) -> None:
    assert stage.run("sh", "-c", "read x || echo nothing") == (0, "nothing\n")


def test_who_does_not_read_is_cut_off_and_the_process_goes_on(stage: Stage) -> None:
    spec = stage.spec("sh", "-c", "head -c 30000000 /dev/zero; echo done > /marker; sleep 1d")
    stage.runtime.create(spec)
    with attach(stage, spec, stdin=False) as stream:
        stage.runtime.start(spec.id)
        marker = os.path.join(spec.root.upper, "marker")
        until("the process is through", lambda: os.path.exists(marker))
        assert len(rest(stream)) < 30_000_000


def test_a_full_disk_holds_nobody_up(stage: Stage, tmp_path: Path) -> None:
    """What does not fit is dropped by whole lines, and counted; the process goes on to its end."""
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path))
    try:
        spec = stage.spec("sh", "-c", "seq 100000; exit 3")
        spec = replace(spec, log=LogOptions(str(tmp_path / "log")))
        stage.runtime.create(spec)
        stage.runtime.start(spec.id)
        assert stage.runtime.wait(spec.id) == 3
        kept = [json.loads(line)["log"] for line in (tmp_path / "log").read_text().splitlines()]
        assert kept == [f"{number}\n" for number in range(1, len(kept) + 1)]
        written = sum(len(f"{number}\n") for number in range(1, 100001))
        dropped = stage.runtime.status(spec.id).log_dropped
        assert 0 < dropped == written - len("".join(kept))
        stage.runtime.destroy(spec.id)
    finally:
        run("umount", str(tmp_path))


def test_a_terminal(stage: Stage) -> None:
    script = "tty; stty size; ls -l /dev/console; test -t 2; echo $TERM; read line; echo got $line"
    spec = stage.spec("sh", "-c", script, tty=True, open_stdin=True, rows=31, columns=97)
    stage.runtime.create(spec)
    with attach(stage, spec) as stream:
        stage.runtime.start(spec.id)
        stream.sendall(b"hello\r")
        lines = rest(stream).decode().split("\r\n")
    lines.remove("hello")  # the echo: where it lands depends on who is faster
    assert lines[:2] == ["/dev/pts/0", "31 97"]
    assert lines[3:] == ["xterm", "got hello", ""]
    assert stage.runtime.wait(spec.id) == 0


def test_a_terminal_is_resized_and_interrupted(stage: Stage) -> None:
    spec = stage.start(
        "sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.01; done",
        tty=True, open_stdin=True,
    )  # fmt: skip
    with attach(stage, spec) as stream:
        until("it is up", lambda: "up" in stage.output(spec))
        stage.runtime.resize(spec.id, 40, 120)
        read_until(stream, b"40 120")
        stream.sendall(b"\x03")
        assert stage.runtime.wait(spec.id) == 130


def test_a_shell_in_a_terminal(stage: Stage) -> None:
    spec = stage.start("sh", tty=True, open_stdin=True)
    with attach(stage, spec) as stream:
        stream.sendall(b"echo $((6*7)); sleep 1d\n")
        read_until(stream, b"42\r\n")
        until("it sleeps", lambda: "sleep" in names(stage, spec))
        stream.sendall(b"\x03")  # job control: the shell stays, what it ran does not
        stream.sendall(b"exit 8\n")
        rest(stream)
    assert stage.runtime.wait(spec.id) == 8


def test_one_detaches_another_attaches(stage: Stage) -> None:
    spec = stage.start("cat", tty=True, open_stdin=True)
    for word in (b"one", b"two"):
        with attach(stage, spec) as stream:
            stream.sendall(word + b"\n")
            read_until(stream, word + b"\r\n" + word)
    stage.runtime.kill(spec.id, signal.SIGKILL)


def test_dev_stdout_can_be_opened_by_its_user(stage: Stage) -> None:
    code, output = stage.run("sh", "-c", "echo by name > /dev/stdout", user="web")
    assert (code, output) == (0, "by name\n")
