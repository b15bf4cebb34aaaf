"""Lab files that are right: what they mean."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from textwrap import dedent

import pytest

from cnm.netlab import quantities
from cnm.netlab.labfile import load, loads
from cnm.netlab.model import (
    Attachment,
    Daemon,
    Image,
    Impairment,
    Lab,
    Packets,
    Ping,
    Place,
    Port,
    Process,
    Reach,
    Route,
    Subnet,
    Switch,
)


def lab(text: str) -> Lab:
    return loads(dedent(text), Path("/labs/lab.yaml"))


def ends(found: Lab) -> dict[str, str]:
    return {str(link.ends[0]): str(link.ends[1]) for link in found.links}


def test_the_name_is_the_files_or_its_own() -> None:
    assert lab("hosts: {n1: }").name == "lab"
    assert lab("name: my-lab\nhosts: {n1: }").name == "my-lab"


def test_interfaces_get_names_a_hosts_own_links_first() -> None:
    found = lab("""
        hosts:
          a: {links: [{to: b}, {to: sw1}, {to: sw1, interface: eth0}]}
          b: {links: [{to: sw1}, {to: a, peer: {interface: back}}]}
        switches: {sw1: , sw2: {links: [{to: sw1}]}}
    """)
    assert ends(found) == {
        "a:eth1": "b:eth2",
        "a:eth2": "sw1:a.eth2",
        "a:eth0": "sw1:a.eth0",
        "b:eth0": "sw1:b.eth0",
        "b:eth1": "a:back",
        "sw2:sw1.1": "sw1:sw2.1",
    }


def test_a_ports_name_fits_an_interface_and_is_always_the_same() -> None:
    text = "hosts: {a-host-with-a-long-name: {links: [{to: sw1}]}}\nswitches: {sw1: }"
    port = lab(text).links[0].ends[1].interface
    assert len(port) <= 15
    assert port == lab(text).links[0].ends[1].interface


def test_a_link_is_found_by_its_name_and_by_both_ends() -> None:
    found = lab("""
        hosts: {a: {links: [{to: b, name: wan}, {to: b}]}, b: }
    """)
    wan, other = found.links
    assert (wan.name, other.name) == ("wan", "a:eth1")
    assert found.link("wan") is found.link("a:eth0") is found.link("b:eth0") is wan
    assert found.link("a:eth1") is found.link("b:eth1") is other
    assert found.link("c:eth0") is None


def test_addresses_routes_and_the_rest_of_a_host() -> None:
    found = lab("""
        hosts:
          a:
            links:
              - to: r
                addresses: [10.0.0.1/24, "fd00::1/64"]
                mtu: 9000
                mac: "02:00:00:00:0A:01"
                peer: {addresses: 10.0.0.254/24}
            routes: [{via: 10.0.0.254}, {to: 10.2.0.0/16, via: 10.0.0.254, metric: 5}]
            sysctls: {net.ipv4.ip_forward: 0}
            nameservers: 10.0.0.254
            search: [lab.example]
            processes: {web: python3 -m http.server 80, two: {command: [sleep, 1d]}}
        routers: {r: }
    """)
    a, r = found.hosts
    assert (a.router, r.router) == (False, True)
    link, end = next(found.links_of("a"))
    assert (link.mtu, end.mac) == (9000, "02:00:00:00:0a:01")
    assert found.addresses("a") == (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64"))
    assert found.addresses("r") == (ip_interface("10.0.0.254/24"),)
    gateway = ip_address("10.0.0.254")
    assert a.routes == (Route(None, gateway), Route(ip_network("10.2.0.0/16"), gateway, None, 5))
    assert a.sysctls == (("net.ipv4.ip_forward", "0"),)
    assert (a.nameservers, a.search) == ((gateway,), ("lab.example",))
    assert a.processes == (
        Process("web", ("python3", "-m", "http.server", "80")),
        Process("two", ("sleep", "1d")),
    )


def test_vlans_make_a_switch_filter() -> None:
    found = lab("""
        hosts:
          a: {links: [{to: sw1, vlan: 10}]}
          b: {links: [{to: sw1, trunk: [10, 20], vlans: {10: {addresses: 10.0.0.2/24}, 20: }}]}
        switches: {sw1: , sw2: }
    """)
    assert found.switches == (Switch("sw1", filtering=True), Switch("sw2"))
    assert [link.ends[1].access for link in found.links] == [10, None]
    assert found.links[1].ends[1].trunk == (10, 20)
    names = [sub.name for sub in found.links[1].ends[0].subinterfaces]
    assert names == ["eth0.10", "eth0.20"]
    assert found.addresses("b") == (ip_interface("10.0.0.2/24"),)


@pytest.mark.parametrize(
    ("cables", "trees"),
    [
        ({"a": ["b"], "b": ["c"]}, set()),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, {"a", "b", "c"}),
        ({"a": ["b", "b"], "c": ["d"]}, {"a", "b"}),
        ({"a": ["b", "b"], "b": ["c"]}, {"a", "b", "c"}),
    ],
    ids=["line", "ring", "two cables", "ring with a tail"],
)
def test_rings_of_switches_get_a_spanning_tree(
    cables: dict[str, list[str]], trees: set[str]
) -> None:
    switches = "".join(
        f"  {name}: {{links: [{', '.join(f'{{to: {to}}}' for to in cables.get(name, []))}]}}\n"
        for name in "abcd"
    )
    found = lab(f"hosts: {{n1: }}\nswitches:\n{switches}")
    assert {switch.name for switch in found.switches if switch.stp} == trees


def test_what_runs_on_a_host() -> None:
    found = lab("""
        hosts:
          n1:
            cnm: {flags: --log-level debug, config: {dns: [1.1.1.1], mtu: 1400}}
            etcd: {flags: [--debug]}
            networks:
              blue:
              green:
                subnets: [10.9.0.0/24, {subnet: "fd09::/64", gateway: "fd09::1"}]
                ipv6: true
                internal: yes
                options: {com.docker.network.bridge.name: br-green}
            containers:
              web:
                image: host
                command: [python3, -m, http.server]
                networks: {green: {ip: 10.9.0.5, aliases: www}, blue: }
                ports: [80, 8080:22, "127.0.0.1:53:53/udp", "[::1]:5005:80"]
                environment: {A: "1"}
              c: {image: busybox, count: 3, environment: [B=2]}
    """)
    host = found.hosts[0]
    assert host.daemons == (
        Daemon("cnm", ("--log-level", "debug"), '{"dns": ["1.1.1.1"], "mtu": 1400}'),
        Daemon("etcd", ("--debug",)),
    )
    blue, green = host.networks
    assert (blue.engine, blue.driver, blue.internal) == ("cnm", "bridge", False)
    assert green.subnets == (
        Subnet(ip_network("10.9.0.0/24")),
        Subnet(ip_network("fd09::/64"), ip_address("fd09::1")),
    )
    assert (green.ipv6, green.internal) == (True, True)
    web, *others = host.containers
    assert web.networks == (
        Attachment("green", ipv4=ip_address("10.9.0.5"), aliases=("www",)),
        Attachment("blue"),
    )
    assert web.ports == (
        Port(80),
        Port(22, "tcp", 8080),  # YAML 1.1 would make a number of 8080:22
        Port(53, "udp", 53, ip_address("127.0.0.1")),
        Port(80, "tcp", 5005, ip_address("::1")),
    )
    assert web.environment == (("A", "1"),)
    assert [item.name for item in others] == ["c-1", "c-2", "c-3"]
    assert {item.environment for item in others} == {(("B", "2"),)}


def test_anchors_and_merges() -> None:
    found = lab("""
        hosts:
          a: &node {cnm: , containers: {cc: &c {image: host, hostname: x}}}
          b: {<<: *node, networks: {n: }}
          c: {<<: *node, containers: {cc: {<<: *c, hostname: y}}}
    """)
    assert [host.daemon("cnm") for host in found.hosts] == [Daemon("cnm")] * 3
    assert [host.containers[0].hostname for host in found.hosts] == ["x", "x", "y"]


def test_files_of_images_lie_beside_the_lab_file(tmp_path: Path) -> None:
    (tmp_path / "web.tar").touch()
    (tmp_path / "lab.yaml").write_text(
        "hosts: {n1: {cnm: , containers: {cc: {image: web}}}}\n"
        "images: {web: {rootfs: web.tar}, tools: {archive: web.tar}, box: busybox}\n"
    )
    assert load(tmp_path / "lab.yaml").images == (
        Image("web", "rootfs", tmp_path / "web.tar"),
        Image("tools", "archive", tmp_path / "web.tar"),
        Image("box", "busybox"),
    )


def test_addresses_may_be_used_again_where_that_is_wanted() -> None:
    found = lab("""
        reuse-addresses: true
        hosts:
          a: {links: [{to: sw1, addresses: 10.0.0.1/24}]}
          b: {links: [{to: sw2, addresses: 10.0.0.1/24}]}
        switches: {sw1: , sw2: }
    """)
    assert found.addresses("a") == found.addresses("b")


def test_impairments() -> None:
    found = lab("""
        hosts: {a: {links: [{to: b, impair: {delay: 10ms, loss: 0.5%, rate: 5mbit}}]}, b: }
    """)
    assert found.links[0].impairment == Impairment(
        delay_s=0.01, loss_percent=0.5, rate_bit_s=5_000_000
    )


def test_checks() -> None:
    found = lab("""
        hosts:
          a: {links: [{to: b, addresses: 10.0.0.1/24}], cnm: , containers: {cc: {image: host}}}
          b:
        checks:
          - ping: {from: a/cc, to: 10.0.0.2, family: 4}
            name: out
          - tcp: {from: b, to: a, port: 80}
            expect: false
            within: 500ms
          - udp: {from: b, to: dns.example, port: 53}
          - packets: {on: "b:eth0", filter: icmp, while: {ping: {from: a, to: b}}}
    """)
    out, tcp, udp, packets = found.checks
    assert (out.name, out.kind, out.line, out.expect, out.within_s) == ("out", "ping", 6, True, 5.0)
    assert out.probe == Ping(Place("a", "cc"), ip_address("10.0.0.2"), family=4)
    assert tcp.name == "tcp b to a port 80"
    assert tcp.probe == Reach(Place("b"), Place("a"), 80, "tcp")
    assert (tcp.expect, tcp.within_s) == (False, 0.5)
    assert udp.probe == Reach(Place("b"), "dns.example", 53, "udp")
    assert packets.probe == Packets("a:eth0", "b", "icmp", during=Ping(Place("a"), Place("b")))


def test_two_readings_of_one_text_are_equal() -> None:
    text = "hosts: {a: {cnm: {config: {x: [1]}}, links: [{to: b}]}, b: }"
    assert lab(text) == lab(text)
    assert hash(lab(text)) == hash(lab(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [("200us", 0.0002), ("10ms", 0.01), ("1.5s", 1.5), ("2m", 120.0), ("10 ms", 0.01)],
)
def test_seconds(text: str, value: float) -> None:
    assert quantities.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("64kbit", 64_000), ("1.5mbit", 1_500_000), ("1GBIT", 1_000_000_000), ("10bit", 10)],
)
def test_bits_per_second(text: str, value: int) -> None:
    assert quantities.bits_per_second(text) == value
