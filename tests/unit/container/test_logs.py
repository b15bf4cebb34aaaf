"""A log written and read: lines, rotation, what the disk refuses, tails, spans, following."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from cnm.runtime.container import logs
from cnm.runtime.container.logfile import LONGEST_LINE, LogFile
from cnm.runtime.container.logs import LogQuery
from cnm.runtimeapi import LogOptions

ALL = LogQuery()


def texts(path: Path, query: LogQuery = ALL) -> list[str]:
    return [entry.data.decode() for entry in logs.read(str(path), query)]


def make(path: Path, **options: int) -> LogFile:
    return LogFile(LogOptions(str(path), **options))


def test_the_format_is_dockers(tmp_path: Path) -> None:
    log = make(tmp_path / "log")
    log.write(1, 'gr\u00fc\u00df "x"\n'.encode())
    log.close()
    line = (tmp_path / "log").read_text()
    found = json.loads(line)
    assert list(found) == ["log", "stream", "time"]
    assert (found["log"], found["stream"]) == ('gr\u00fc\u00df "x"\n', "stdout")
    assert len(found["time"]) == len("2026-01-01T00:00:00.000000000Z")


def test_lines_are_put_together_and_long_ones_split(tmp_path: Path) -> None:
    log = make(tmp_path / "log")
    for piece in (b"a", b"b\nc", b"", b"\nrest"):
        log.write(1, piece)
    log.write(2, b"x" * (LONGEST_LINE + 5) + b"\n")
    assert texts(tmp_path / "log") == ["ab\n", "c\n", "x" * LONGEST_LINE, "xxxxx\n"]
    log.close()
    assert texts(tmp_path / "log")[-1] == "rest"


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path, max_size_bytes=400, max_files=3)
    for number in range(100):
        log.write(1, f"line {number}\n".encode())
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    assert all(os.path.getsize(tmp_path / name) <= 400 for name in os.listdir(tmp_path))
    found = [int(text.split()[1]) for text in texts(path)]
    assert found == list(range(100 - len(found), 100))
    logs.remove(str(path))
    assert os.listdir(tmp_path) == []


def test_one_file_is_begun_anew(tmp_path: Path) -> None:
    log = make(tmp_path / "log", max_size_bytes=300, max_files=1)
    for number in range(50):
        log.write(1, f"{number}\n".encode())
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert texts(tmp_path / "log")[-1] == "49\n"


def test_what_the_disk_refuses_is_dropped_whole_and_counted(tmp_path: Path) -> None:
    """A size limit of the process stands for the full disk: a short write, then an error."""
    path = tmp_path / "log"
    log = make(path)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
        for number in range(10):
            log.write(1, f"line {number}\n".encode())
        os._exit(log.dropped)
    _, status = os.waitpid(pid, 0)
    kept = texts(path)
    assert kept == [f"line {number}\n" for number in range(len(kept))]
    assert 0 < len(kept) < 10
    assert os.waitstatus_to_exitcode(status) == (10 - len(kept)) * len("line 0\n")
    assert path.read_bytes().endswith(b"}\n")


def test_a_directory_that_is_not_there_drops_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = make(tmp_path / "file" / "log")
    log.write(1, b"lost\n")
    assert log.dropped == 5
    log.close()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 39, 40, 41])
def test_tails_over_rotated_files(tmp_path: Path, count: int) -> None:
    path = tmp_path / "log"
    log = make(path, max_size_bytes=1000, max_files=9)
    for number in range(40):
        log.write(1, f"{number}\n".encode())
    log.close()
    expected = [f"{number}\n" for number in range(40)][max(0, 40 - count) :]
    assert texts(path, LogQuery(tail=count)) == expected


def test_tails_of_lines_longer_than_a_block(tmp_path: Path) -> None:
    log = make(tmp_path / "log")
    for number in range(30):
        log.write(1, (f"{number}" + "x" * 15000 + "\n").encode())
    log.close()
    found = texts(tmp_path / "log", LogQuery(tail=12))
    assert [text.split("x")[0] for text in found] == [str(number) for number in range(18, 30)]


def test_spans_of_time_and_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [
        {"log": f"{second}\n", "stream": "stdout", "time": f"2026-01-01T00:00:0{second}.5Z"}
        for second in range(6)
    ]
    path.write_text("torn\n" + "".join(json.dumps(line) + "\n" for line in lines) + '{"log": "no')
    entries = list(logs.read(str(path), LogQuery()))
    assert entries[1].time_ns - entries[0].time_ns == 1_000_000_000
    query = LogQuery(since_ns=entries[2].time_ns, until_ns=entries[4].time_ns)
    assert texts(path, query) == ["2\n", "3\n", "4\n"]
    assert texts(tmp_path / "none") == []


def test_following_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path, max_size_bytes=300, max_files=4)
    log.write(1, b"old\nnewest\n")
    numbers = itertools.count()

    def ended() -> bool:
        """Called between looks: write a little more each time, more than one file at once."""
        number = next(numbers)
        for item in range(4):
            log.write(1, f"{number}.{item}\n".encode())
        return number == 5

    found = [entry.data.decode() for entry in logs.follow(str(path), LogQuery(tail=1), ended)]
    log.close()
    expected = [f"{number}.{item}\n" for number in range(6) for item in range(4)]
    assert found == ["newest\n", *expected]


def test_following_what_does_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log: list[LogFile] = []

    def ended() -> bool:
        if not log:
            log.append(make(path))
            log[0].write(2, b"first\n")
            return False
        return True

    found = list(logs.follow(str(path), LogQuery(), ended))
    log[0].close()
    assert [(entry.stream, entry.data) for entry in found] == [("stderr", b"first\n")]
