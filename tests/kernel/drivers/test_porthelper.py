"""The daemon's side of the port helper: what it asks and does something else meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.drivers.exchange import is_free
from kernel.namespaces import Namespace, poll

from cnm.drivers.bridge import portprotocol
from cnm.drivers.bridge.porthelper import PortHelper
from cnm.drivers.bridge.portprotocol import Key, Wanted
from cnm.errors import CNMError, PortTaken
from cnm.runtime.kernel import resident

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("host_ns")]

ANY = "0.0.0.0"


@pytest.fixture
def helper(tmp_path: Path, host_ns: Namespace) -> Iterator[PortHelper]:
    helper = PortHelper(str(tmp_path))
    yield helper
    for owner in {holding[3] for holding in helper.holdings().values()}:
        helper.release(owner, helper.held_by(owner))
    helper.close()
    poll(lambda: not os.path.exists(portprotocol.place(str(tmp_path)).socket), "its end")


def tcp(low: int, high: int = 0) -> Wanted:
    return Wanted("tcp", ((ANY, None),), low, high or low)


def key(port: int) -> Key:
    return "tcp", ANY, port


def pid_of(folder: Path) -> int:
    with resident.connect(portprotocol.place(str(folder))) as link:
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    return int(struct.unpack("=iII", raw)[0])


def test_ports_are_held_when_the_answer_is_there(helper: PortHelper) -> None:
    with helper.holding("web", [tcp(5005), tcp(5006, 5010)]) as answer:
        meanwhile = sum(range(1000))
        assert answer() == [5005, 5006]
    assert meanwhile == 499_500
    assert sorted(helper.held_by("web")) == [key(5005), key(5006)]
    assert not is_free(5005)


@pytest.mark.parametrize("more", [[], [5006]], ids=["nothing more was asked", "one more"])
def test_what_goes_wrong_meanwhile_leaves_only_what_was_held(
    helper: PortHelper, more: list[int]
) -> None:
    helper.hold("web", [tcp(5005)])

    def fail() -> None:
        with helper.holding("web", [tcp(port) for port in (5005, *more)]):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert helper.held_by("web") == [key(5005)]
    assert (is_free(5005), is_free(5006)) == (False, True)


def test_a_port_that_is_taken_is_told_where_it_is_waited_for(helper: PortHelper) -> None:
    helper.hold("db", [tcp(5005)])
    with helper.holding("web", [tcp(5006), tcp(5005)]) as answer:
        with pytest.raises(PortTaken, match="5005 failed: port is already allocated") as caught:
            answer()
        assert caught.value.endpoint_id == "db"
    assert helper.held_by("web") == []
    assert is_free(5006)


@pytest.mark.parametrize("asked", [True, False], ids=["after it was asked", "before"])
def test_a_helper_that_dies_meanwhile_has_an_heir_that_is_asked_again(
    helper: PortHelper, tmp_path: Path, asked: bool
) -> None:
    helper.hold("web", [tcp(5005)])
    pid = pid_of(tmp_path)
    if not asked:
        os.kill(pid, signal.SIGSTOP)
    with helper.holding("web", [tcp(5006)]) as answer:
        os.kill(pid, signal.SIGKILL)
        poll(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
        assert answer() == [5006]
    # if the answer had come already, the heir is started by who watches the process
    poll(lambda: not is_free(5005) and not is_free(5006), "the heir")
    assert pid_of(tmp_path) != pid
    assert sorted(helper.held_by("web")) == [key(5005), key(5006)]


def test_what_the_helper_refuses_is_told_at_once_and_once(
    helper: PortHelper, tmp_path: Path
) -> None:
    """Its answer was read: to wait for it again would take ten seconds, and end the helper."""
    helper.hold("web", [tcp(5005)])
    pid = pid_of(tmp_path)
    for _ in range(2):
        with pytest.raises(CNMError):
            helper.hold("web", [Wanted("none", ((ANY, None),), 5006, 5006)])
        assert helper.hold("web", [tcp(5007)]) == [5007]
    assert pid_of(tmp_path) == pid
    assert sorted(helper.held_by("web")) == [key(5005), key(5007)]
