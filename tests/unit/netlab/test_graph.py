"""Pictures of a lab: where boxes stand, what is drawn."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from cnm.netlab.graph import layout, svg, tree
from cnm.netlab.graph.picture import (
    ContainerSeen,
    Interface,
    NetworkSeen,
    NodeSeen,
    Picture,
    WireSeen,
)

_NAMES = st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=16, unique=True)


def _picture() -> Picture:
    eth0 = Interface("eth0", "veth", True, ("10.0.0.1/24", "fd00::1/64"))
    bridge = Interface("br-1", "bridge", True, ("172.18.0.1/16",))
    port = Interface("veth1", "veth", True, (), "br-1")
    tunnel = Interface("vxlan0", "vxlan", True, (), "", "vxlan 4097 to 10.0.0.2")
    inside = Interface("eth0", "veth", True, ("172.18.0.2/16",))
    host = NodeSeen(
        "node1",
        "host",
        (eth0, bridge, port, tunnel),
        (NetworkSeen("net<1>", "bridge", "br-1"),),
        (ContainerSeen("web", True, ((inside, "net<1>"),)), ContainerSeen("off", False)),
    )
    switch = NodeSeen("sw", "switch", (Interface("p1", "veth", True, (), "sw"),))
    wire = WireSeen("cable", "node1:eth0", "sw:p1", True, "out: loss 10%")
    return Picture("lab", (host, switch), (wire,))


def test_a_tree_has_links_networks_containers_and_tunnels() -> None:
    assert tree.draw(_picture()).splitlines() == [
        "lab lab",
        "host node1",
        "├─ eth0 10.0.0.1/24 fd00::1/64 ── sw:p1  [out: loss 10%]",
        "├─ vxlan0 (vxlan 4097 to 10.0.0.2)",
        "├─ network net<1> (bridge) on br-1 172.18.0.1/16",
        "│  └─ web  eth0 172.18.0.2/16",
        "└─ container off  [not running]",
        "switch sw",
        "└─ p1 ── node1:eth0  [out: loss 10%]",
    ]


def test_svg_is_xml_with_every_name_and_address() -> None:
    root = ElementTree.fromstring(svg.draw(_picture()))
    said = " ".join(root.itertext())
    for text in ("node1", "sw", "net<1>", "web", "172.18.0.2/16", "vxlan 4097", "loss 10%"):
        assert text in said


def test_a_picture_of_nothing_is_drawn() -> None:
    empty = Picture("none", (), ())
    assert tree.draw(empty) == "lab none\n"
    assert ElementTree.fromstring(svg.draw(empty)).tag.endswith("svg")


@given(_NAMES, st.data())
def test_no_two_boxes_overlap_and_all_are_in_the_picture(
    names: list[str], data: st.DataObject
) -> None:
    size = st.tuples(st.floats(50, 900), st.floats(20, 400))
    sizes = {name: data.draw(size) for name in names}
    pair = st.tuples(st.sampled_from(names), st.sampled_from(names))
    boxes = layout.place(sizes, data.draw(st.lists(pair, max_size=30)))
    assert set(boxes) == set(names)
    width, height = layout.extent(boxes)
    for box in boxes.values():
        assert 0 <= box.x <= width - box.width
        assert 0 <= box.y <= height - box.height
    for first, second in combinations(boxes.values(), 2):
        beside = first.x + first.width <= second.x or second.x + second.width <= first.x
        above = first.y + first.height <= second.y or second.y + second.height <= first.y
        assert beside or above


def test_the_middle_of_a_star_stands_above_its_leaves() -> None:
    sizes = dict.fromkeys(("a", "b", "c", "middle"), (100.0, 50.0))
    boxes = layout.place(sizes, [("a", "middle"), ("b", "middle"), ("middle", "c")])
    assert all(boxes["middle"].y < boxes[leaf].y for leaf in "abc")
