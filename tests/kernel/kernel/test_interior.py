"""What is opened in one visit stays of the namespace that was visited."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.errors import KernelError
from cnm.runtime.kernel.interior import Interior
from cnm.runtime.kernel.netns import NetNS

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]


@pytest.fixture
def interior(box: Namespace) -> Iterator[Interior]:
    with contextlib.closing(Interior(socket.socket.close)) as interior, NetNS(box.path) as inside:
        inside.run(interior.open)
        yield interior


@pytest.fixture
def box(make_ns: NamespaceFactory) -> Namespace:
    """Another one than ours."""
    made = make_ns("box")
    made.sh("link add eth0 type veth peer name eth1; link set eth0 up; link set eth1 up")
    return made


def setting(box: Namespace, interface: str, name: str) -> str:
    return box.run("cat", f"/proc/sys/net/ipv6/conf/{interface}/{name}").strip()


def test_settings_are_written_there_and_not_here(box: Namespace, interior: Interior) -> None:
    here = Path("/proc/sys/net/ipv6/conf/lo/accept_ra")
    before = here.read_text()
    interior.set_ipv6("eth0", {"accept_ra": "0", "disable_ipv6": "1"})
    interior.set_ipv6("lo", {"accept_ra": "2"})
    assert setting(box, "eth0", "accept_ra") == "0"
    assert setting(box, "eth0", "disable_ipv6") == "1"
    assert setting(box, "eth1", "disable_ipv6") == "0"
    assert setting(box, "lo", "accept_ra") == "2"
    assert here.read_text() == before


def test_an_interface_that_came_after_the_visit(box: Namespace, interior: Interior) -> None:
    box.sh("link add late0 type veth peer name late1")
    interior.set_ipv6("late0", {"accept_ra": "0"})
    assert setting(box, "late0", "accept_ra") == "0"
    sender = interior.take_sender("late0")
    assert sender is not None
    with contextlib.closing(sender):
        assert sender.getsockname()[0] == "late0"


def test_an_interface_without_ipv6_has_nothing_to_be_set(
    box: Namespace, interior: Interior
) -> None:
    box.sh("link set eth0 mtu 1000")
    interior.set_ipv6("eth0", {"accept_ra": "0", "disable_ipv6": "1"})
    interior.set_ipv6("absent", {"accept_ra": "0"})


def test_a_value_that_the_kernel_does_not_take(interior: Interior) -> None:
    with pytest.raises(KernelError, match="sysctl net/ipv6/conf/eth0/accept_ra = many") as caught:
        interior.set_ipv6("eth0", {"accept_ra": "many"})
    assert caught.value.errno == errno.EINVAL


def test_a_sender_is_had_once_and_again_after_another_visit(
    box: Namespace, interior: Interior
) -> None:
    first = interior.take_sender("eth0")
    assert first is not None
    assert not interior.is_open
    assert interior.take_sender("eth0") is None
    with NetNS(box.path) as inside:
        inside.run(interior.open)
    second = interior.take_sender("eth1")
    assert second is not None
    assert (first.getsockname()[0], second.getsockname()[0]) == ("eth0", "eth1")
    first.close()
    second.close()


def test_of_an_interface_that_is_gone_there_is_none(interior: Interior) -> None:
    assert interior.take_sender("absent") is None


def test_it_is_opened_in_the_visit_that_opens_the_netlink(box: Namespace) -> None:
    threads: list[int] = []
    with contextlib.closing(Interior(socket.socket.close)) as interior:

        def visit() -> None:
            threads.append(os.stat("/proc/thread-self/ns/net").st_ino)
            interior.open()

        with NetNS(box.path, visit=visit) as inside:
            assert inside.netlink().link("eth0") is not None
            assert inside.netlink().link("eth1") is not None
        assert threads == [os.stat(box.path).st_ino]
        assert interior.is_open


def test_a_visit_that_fails_leaves_no_socket(box: Namespace) -> None:
    def visit() -> None:
        raise KernelError(errno.EMFILE, "opening")

    before = os.listdir("/proc/self/fd")
    with NetNS(box.path, visit=visit) as inside:
        with pytest.raises(KernelError):
            inside.netlink()
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1
