"""Visits to other namespaces: there and back, whatever happens, or no further."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.runtime.kernel.visit import Home

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(make_ns: NamespaceFactory) -> Namespace:
    made = make_ns("box")
    made.sh("link add cnmt0 type bridge")
    return made


@pytest.fixture
def inside(box: Namespace) -> Iterator[int]:
    descriptor = os.open(box.path, os.O_RDONLY | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def home() -> Iterator[Home]:
    with contextlib.closing(Home()) as made:
        yield made


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.mark.usefixtures("leaves_nothing")
def test_a_visit_is_inside_and_comes_back(home: Home, inside: int) -> None:
    before = here()
    assert "cnmt0" in home.visit(inside, links)
    assert here() == before
    assert "cnmt0" not in links()


def test_a_socket_made_on_a_visit_stays_there(home: Home, inside: int, box: Namespace) -> None:
    with contextlib.closing(home.visit(inside, socket.socket)) as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        port = made.getsockname()[1]
        assert f":{port}" in box.run("ss", "-Hltn")


def test_an_error_inside_is_handed_on_from_home(home: Home, inside: int) -> None:
    before = here()
    with pytest.raises(ZeroDivisionError):
        home.visit(inside, lambda: 1 // 0)
    assert here() == before


def test_what_cannot_be_entered_is_told(
    home: Home, inside: int, tmp_path: os.PathLike[str]
) -> None:
    before = here()
    plain = os.open(tmp_path, os.O_RDONLY)
    gone = os.dup(inside)
    os.close(gone)
    try:
        for descriptor, number in ((gone, errno.EBADF), (plain, errno.EINVAL)):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                home.visit(descriptor, links)
            assert caught.value.errno == number
            assert here() == before
    finally:
        os.close(plain)


def test_home_is_told_from_elsewhere(home: Home, inside: int) -> None:
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert home.is_here(own)
        assert not home.is_here(inside)
    finally:
        os.close(own)


def test_after_the_end_nothing_is_visited(inside: int) -> None:
    home = Home()
    home.close()
    home.close()
    before = here()
    with pytest.raises(OSError, match="ended"):
        home.visit(inside, links)
    assert here() == before


_LOST = """
import os, sys
from cnm.runtime.kernel.visit import Home
home = Home()
inside = os.open(sys.argv[1], os.O_RDONLY)
home.visit(inside, lambda: os.closerange(3, 64))  # something in the process closed them
print("went on in", os.readlink("/proc/self/ns/net"))
"""


def test_without_a_way_back_the_process_ends(box: Namespace) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LOST, box.path], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert "cannot return to our own network namespace: Bad file descriptor" in done.stderr
