"""Links: made, changed, listed and deleted by us, judged by ip and bridge."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.errors import KernelError
from cnm.netlab.features import Features
from cnm.runtime.kernel.netlink import Netlink, Upper
from cnm.runtime.kernel.netns import NetNS

pytestmark = pytest.mark.kernel

MAC = "02:42:0a:00:00:07"


@pytest.fixture
def netlink(host_ns: Namespace) -> Iterator[Netlink]:
    with Netlink() as opened:
        yield opened


def test_bridge(host_ns: Namespace, netlink: Netlink) -> None:
    netlink.batch().add_bridge(
        "br-a", mac=MAC, mtu=1400, alias="cnm:test", up=True, multicast_snooping=False
    ).commit()
    link = host_ns.link("br-a")
    assert link is not None
    assert (link["address"], link["mtu"], link["ifalias"]) == (MAC, 1400, "cnm:test")
    assert "UP" in link["flags"]
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert link["linkinfo"]["info_data"]["mcast_snooping"] == 0


def test_veth_is_made_in_its_two_places_by_one_message(
    host_ns: Namespace, netlink: Netlink, make_ns: NamespaceFactory
) -> None:
    box = make_ns("box")
    netlink.batch().add_bridge("br-a", up=True).commit()
    with NetNS(box.path) as inside:
        netlink.batch().add_veth(
            "veth0",
            peer_name="eth0",
            peer_ns_fd=inside.fd,
            mac_peer=MAC,
            mtu=1300,
            master=netlink.index("br-a"),
            alias="cnm:test",
            group=77,
        ).commit()
    outer, inner = host_ns.link("veth0"), box.link("eth0")
    assert outer is not None
    assert inner is not None
    assert (outer["master"], outer["mtu"], outer["ifalias"]) == ("br-a", 1300, "cnm:test")
    assert outer["group"] == "77"
    assert "UP" in outer["flags"]
    assert (inner["address"], inner["mtu"]) == (MAC, 1300)
    assert "UP" not in inner["flags"]


def test_both_ends_of_a_veth_can_be_here_and_marked(host_ns: Namespace, netlink: Netlink) -> None:
    netlink.batch().add_veth(
        "v0", peer_name="v1", peer_ns_fd=None, alias="one", peer_alias="two", up=False
    ).commit()
    found = {link.name: link for link in netlink.links(kind="veth")}
    assert (found["v0"].alias, found["v1"].alias) == ("one", "two")
    assert found["v0"].peer_index == found["v1"].index
    assert not found["v0"].up


def test_an_alias_in_another_namespace_is_refused_before_anything_is_made(
    host_ns: Namespace, netlink: Netlink
) -> None:
    with NetNS(host_ns.path) as there, pytest.raises(ValueError, match="elsewhere"):
        netlink.batch().add_veth("v0", peer_name="v1", peer_ns_fd=there.fd, peer_alias="x")


def test_changes_of_a_link(host_ns: Namespace, netlink: Netlink, make_ns: NamespaceFactory) -> None:
    host_ns.sh("link add br-a type bridge; link add v0 type veth peer name v1")
    netlink.batch().set_link("v0", master=netlink.index("br-a"), mtu=1280, mac=MAC).commit()
    changed = host_ns.link("v0")
    assert changed is not None
    assert (changed["master"], changed["mtu"], changed["address"]) == ("br-a", 1280, MAC)
    netlink.batch().set_link("v0", master=0, up=True, alias="x").commit()
    changed = host_ns.link("v0")
    assert changed is not None
    assert "master" not in changed
    assert "UP" in changed["flags"]
    box = make_ns("box")
    with NetNS(box.path) as inside:
        netlink.batch().set_link("v1", net_ns_fd=inside.fd, name="eth5").commit()
    assert host_ns.link("v1") is None
    assert box.link("eth5") is not None
    netlink.batch().set_link("v0", up=False).set_link("v0", name="v7").commit()
    assert host_ns.link("v7") is not None


def test_links_are_read_as_ip_shows_them(host_ns: Namespace, netlink: Netlink) -> None:
    host_ns.sh(
        "link add br-a type bridge; link add v0 mtu 1234 type veth peer name v1;"
        "link set v0 master br-a up alias hello; link set v1 group 9"
    )
    shown = {item["ifname"]: item for item in host_ns.ip("-d", "link", "show")}
    for link in netlink.links():
        peer = shown[link.name]
        assert link.index == peer["ifindex"]
        assert link.mac == peer["address"]
        assert link.mtu == peer["mtu"]
        assert link.up == ("UP" in peer["flags"])
        assert link.carrier == ("LOWER_UP" in peer["flags"])
        assert link.kind == peer.get("linkinfo", {}).get("info_kind", "")
        assert link.alias == peer.get("ifalias", "")
        assert link.group == (0 if peer["group"] == "default" else int(peer["group"]))
        assert link.master == shown.get(peer.get("master", ""), {}).get("ifindex", 0)
        assert netlink.link(link.name) == netlink.link(link.index) == link
        assert netlink.index(link.name) == link.index


def test_lists_are_filtered(host_ns: Namespace, netlink: Netlink) -> None:
    host_ns.sh(
        "link add br-a type bridge; link add br-b type bridge;"
        "link add v0 type veth peer name v1; link set v0 master br-a"
    )
    assert {link.name for link in netlink.links(kind="bridge")} == {"br-a", "br-b"}
    assert {link.name for link in netlink.links(master=netlink.index("br-a"))} == {"v0"}
    assert netlink.links(kind="no-such-kind") == []


def test_more_links_than_one_answer_or_one_request_holds(
    host_ns: Namespace, netlink: Netlink
) -> None:
    batch = netlink.batch()
    for number in range(150):
        batch.add_veth(f"a{number}", peer_name=f"b{number}", peer_ns_fd=None, alias="x" * 200)
    batch.commit()
    names = {item["ifname"] for item in host_ns.ip("link", "show")}
    assert {link.name for link in netlink.links()} == names
    assert len(names) > 300
    netlink.delete_links([f"a{number}" for number in range(150)] + ["absent", 999_999])
    assert {link.name for link in netlink.links()} == {
        item["ifname"] for item in host_ns.ip("link", "show")
    }
    assert netlink.links(kind="veth") == []


@pytest.mark.parametrize("name", ["absent", "", "a-name-of-16-chr", "ü" * 8])
def test_an_unknown_link(name: str, netlink: Netlink) -> None:
    assert netlink.link(name) is None
    assert netlink.index(name) is None


def test_deleting_what_is_gone_is_success(netlink: Netlink) -> None:
    netlink.batch().delete_link("absent").delete_link(999_999).delete_link_group(7).commit()
    netlink.delete_links(["absent"])
    netlink.delete_links(["absent", "absent", 999_999])
    netlink.delete_links([])


def test_a_refusal_says_what_and_why(netlink: Netlink) -> None:
    netlink.batch().add_bridge("br-a").commit()
    with pytest.raises(KernelError) as caught:
        netlink.batch().add_bridge("br-a").commit()
    assert caught.value.errno == errno.EEXIST
    assert str(caught.value) == "link add br-a: File exists"
    with pytest.raises(KernelError, match="link set br-a: Invalid argument: mtu less than"):
        netlink.batch().set_link("br-a", mtu=1).commit()
    with pytest.raises(KernelError, match="link set absent: No such device"):
        netlink.batch().set_link("absent", name="other").commit()


def test_a_batch_goes_on_after_a_refusal_and_names_the_first(
    host_ns: Namespace, netlink: Netlink
) -> None:
    netlink.batch().add_bridge("br-a").commit()
    batch = netlink.batch().add_bridge("br-a").add_bridge("br-b").set_link("absent", up=True)
    with pytest.raises(KernelError, match="link add br-a") as caught:
        batch.commit()
    assert [note.partition(":")[0] for note in caught.value.__notes__] == ["link set absent"]
    assert host_ns.link("br-b") is not None
    batch.commit()  # it is empty now


def test_a_deleted_veth_takes_its_peer_along(host_ns: Namespace, netlink: Netlink) -> None:
    netlink.batch().add_veth("v0", peer_name="v1", peer_ns_fd=None).commit()
    netlink.delete_links(["v0", "v1"])
    assert netlink.links(kind="veth") == []


def test_a_link_on_a_link_is_made_in_another_namespace(
    host_ns: Namespace, netlink: Netlink, make_ns: NamespaceFactory
) -> None:
    box = make_ns("box")
    netlink.batch().add_bare("low0", "ifb", mac=MAC, alias="cnm:test").commit()
    with NetNS(box.path) as inside:
        netlink.batch().add_upper(
            "eth0",
            Upper("macvlan", 2),
            parent=netlink.index("low0") or 0,
            ns_fd=inside.fd,
            mac="02:42:0a:00:00:08",
            mtu=1400,
            group=1 << 31 | 5,
        ).commit()
        found = inside.netlink().link("eth0")
        with pytest.raises(ValueError, match="elsewhere"):
            netlink.batch().add_upper(
                "x", Upper("macvlan", 2), parent=1, ns_fd=inside.fd, alias="x"
            )
    assert found is not None
    assert (found.group, found.peer_index) == (1 << 31 | 5, netlink.index("low0"))
    low, upper = host_ns.link("low0"), box.link("eth0")
    assert low is not None
    assert upper is not None
    assert (low["address"], low["ifalias"]) == (MAC, "cnm:test")
    assert upper["linkinfo"]["info_data"]["mode"] == "vepa"
    assert (upper["address"], upper["mtu"]) == ("02:42:0a:00:00:08", 1400)


def test_what_the_kernel_can_do_is_known_without_doing_it(
    host_ns: Namespace, netlink: Netlink
) -> None:
    features = Features()
    for kind in ("macvlan", "ipvlan", "vlan"):
        assert netlink.knows_kind(kind) == features.has(kind)
    assert not netlink.knows_kind("nosuchkind")
    assert [link.name for link in netlink.links()] == ["lo"]
