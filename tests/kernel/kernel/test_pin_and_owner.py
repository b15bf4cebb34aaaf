"""Namespaces of our own, and the marks of what is ours."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.namespaces import Namespace

from cnm.errors import KernelError
from cnm.runtime.kernel import owner, pin
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.netns import NetNS, own_cookie
from cnm.runtime.kernel.scratch import in_scratch_namespace
from cnm.types import EndpointID, NetworkID

pytestmark = pytest.mark.kernel

NETWORK = NetworkID("a" * 64)
ENDPOINT = EndpointID("b" * 64)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    where = str(tmp_path / "netns" / "box")
    yield where
    pin.remove(where)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_namespace_is_pinned_and_removed(path: str) -> None:
    cookie = pin.create(path, own_cookie)
    assert cookie != own_cookie()
    with NetNS(path) as inside:
        assert inside.cookie() == cookie
    found = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", path], capture_output=True, text=True)
    assert found.stdout.strip() == "nsfs"
    for _ in range(2):
        pin.remove(path)
    assert not Path(path).exists()


def test_a_file_left_by_a_killed_daemon_is_taken_over(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).touch()
    pin.create(path, own_cookie)
    first = pin.create(path, own_cookie)
    with NetNS(path) as inside:
        assert inside.cookie() == first


def test_a_preparation_that_fails_leaves_nothing(path: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        pin.create(path, lambda: 1 // 0)
    assert not Path(path).exists()
    (tmp_path / "file").touch()
    with pytest.raises(KernelError) as caught:
        pin.create(str(tmp_path / "file" / "box"), own_cookie)
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_namespace_for_a_moment() -> None:
    assert in_scratch_namespace(own_cookie) != own_cookie()
    with pytest.raises(ZeroDivisionError):
        in_scratch_namespace(lambda: 1 // 0)


def test_our_links_are_known_by_their_marks(host_ns: Namespace) -> None:
    host_ns.sh("link add theirs type bridge; link set theirs alias cnm:network:short")
    with Netlink() as netlink:
        netlink.batch().add_bridge("br-a", alias=owner.network_mark(NETWORK)).add_veth(
            "v0",
            peer_name="v1",
            peer_ns_fd=None,
            alias=owner.endpoint_mark(ENDPOINT),
            peer_alias=owner.inside_mark(ENDPOINT),
        ).commit()
        found = {(link.name, kind, mark) for link, kind, mark in owner.owned_links(netlink)}
        inside = netlink.link("v1")
    assert found == {("br-a", "network", NETWORK), ("v0", "endpoint", ENDPOINT)}
    assert inside is not None
    assert owner.parse(inside.alias) == ("inside", ENDPOINT)
