"""Links that are gone, told by the kernel while others delete them."""

from __future__ import annotations

import threading

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.netlink import Netlink

pytestmark = pytest.mark.kernel

WITHIN_S = 20


@pytest.mark.usefixtures("leaves_nothing")
def test_deleted_links_are_told(host_ns: Namespace, make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    watch = Departures()
    with Netlink() as netlink:
        for _ in range(2):
            host_ns.sh(f"link add one type veth peer name eth0 netns {box.name}")
            index, gone = netlink.index("one"), threading.Event()
            assert index is not None
            with watch.watching(index, gone.set):
                host_ns.sh("link del one")
                assert gone.wait(WITHIN_S)
        # by us, from a thread: at the word the name is free, and the other end has gone too
        host_ns.sh(f"link add one type veth peer name eth0 netns {box.name}")
        index, gone = netlink.index("one"), threading.Event()
        assert index is not None
        with watch.watching(index, gone.set), Netlink() as deleter:
            call = threading.Thread(target=deleter.delete_links, args=([index],))
            call.start()
            assert gone.wait(WITHIN_S)
            assert netlink.index("one") is None
            netlink.batch().add_bridge("one").commit()
            assert box.link("eth0") is None
            call.join()
    watch.close()
    watch.close()


def test_what_stays_is_not_told(host_ns: Namespace) -> None:
    watch = Departures()
    told: list[str] = []
    last = threading.Event()
    host_ns.sh("link add br0 type bridge; link add last type bridge")
    host_ns.sh("link add one type veth peer name two; link set one master br0 up")
    with Netlink() as netlink:
        index, end = netlink.index("one"), netlink.index("last")
    assert index is not None
    assert end is not None
    with (
        watch.watching(index, lambda: told.append("one")),
        watch.watching(end, last.set),
    ):
        # the kernel says DELLINK of family bridge for a port that leaves
        host_ns.sh("link set one nomaster; link set one name three; link set three down")
        host_ns.sh("link del last")
        assert last.wait(WITHIN_S)
    assert told == []
    watch.close()


@pytest.mark.usefixtures("leaves_nothing")
def test_never_used_is_closed_too(host_ns: Namespace) -> None:
    Departures().close()
