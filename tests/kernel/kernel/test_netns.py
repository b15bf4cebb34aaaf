"""Namespaces: opened, entered, told apart, and closed without a trace."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kernel.namespaces import Namespace, NamespaceFactory, delete_namespace

from cnm.errors import KernelError, SandboxGone
from cnm.runtime.kernel.netns import NetNS, own_cookie
from cnm.types import NamespaceIdentity

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]


def test_a_call_runs_inside_and_the_caller_stays_outside(make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    box.sh("link add cnmt0 type bridge")
    home = os.readlink("/proc/thread-self/ns/net")
    with NetNS(box.path) as namespace:
        assert "cnmt0" in {name for _, name in namespace.run(socket.if_nameindex)}
        assert namespace.run(lambda: os.stat("/proc/thread-self/ns/net").st_ino) == (
            os.stat(box.path).st_ino
        )
        assert namespace.run(lambda: subprocess.check_output(["ip", "-o", "link"])).count(b"\n") > 1
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_calls_of_many_threads_are_all_inside(make_ns: NamespaceFactory) -> None:
    with (
        NetNS(make_ns("one").path) as one,
        NetNS(make_ns("two").path) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        cookies = {namespace: namespace.cookie() for namespace in (one, two)}
        calls = [(item, pool.submit(item.run, own_cookie)) for item in (one, two) * 50]
        assert all(call.result() == cookies[namespace] for namespace, call in calls)
        assert {pool.submit(own_cookie).result() for _ in range(20)} == {own_cookie()}


def test_what_a_call_raises_reaches_the_caller_and_the_next_call_works(
    make_ns: NamespaceFactory,
) -> None:
    with NetNS(make_ns("box").path) as namespace:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                namespace.run(lambda: 1 // 0)
        assert namespace.run(lambda: 7) == 7


@pytest.mark.usefixtures("leaves_nothing")
def test_nothing_is_left_open(make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    for _ in range(5):
        namespace = NetNS(box.path)
        namespace.netlink().links()
        namespace.run(own_cookie)
        namespace.close()
        namespace.close()


@pytest.mark.usefixtures("leaves_nothing")
def test_what_is_no_namespace_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, number in (
        (str(tmp_path / "fifo"), errno.EINVAL),  # and does not wait for a writer
        ("/etc/hostname", errno.EINVAL),
        ("/proc/self/ns/mnt", errno.EINVAL),
        (str(tmp_path), errno.EINVAL),
        (str(tmp_path / "absent"), errno.ENOENT),
    ):
        with pytest.raises(KernelError) as caught:
            NetNS(path)
        assert caught.value.errno == number
        assert path in str(caught.value)


def test_a_namespace_is_told_from_a_later_one_at_its_path(make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    with NetNS(box.path) as namespace:
        identity = NamespaceIdentity(namespace.cookie())
    NetNS(box.path, expect=identity).close()
    delete_namespace(box)
    subprocess.run(["ip", "netns", "add", box.name], check=True)
    with pytest.raises(SandboxGone, match="another network namespace"):
        NetNS(box.path, expect=identity)


def test_the_cookie_is_that_of_the_namespace(host_ns: Namespace, make_ns: NamespaceFactory) -> None:
    with NetNS(host_ns.path) as own, NetNS(make_ns("box").path) as other:
        assert own.cookie() == own_cookie() == own.run(own_cookie)
        assert other.cookie() == other.run(own_cookie) != own_cookie()
