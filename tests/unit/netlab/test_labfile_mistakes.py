"""Lab files with mistakes: every one is told with its line and key, and what is right."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cnm.netlab.errors import LabError, LabFileError
from cnm.netlab.labfile import load, loads

HOSTS = """\
hosts:
  node1:
    links: [{to: sw1, addresses: 10.0.0.1/24}]
  node2:
    links: [{to: sw1, addresses: 10.0.0.2/24}]
    cnm:
    networks: {localnet: }
    containers: {c1: {image: host, networks: [localnet]}}
switches: {sw1: }
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(LabFileError) as caught:
        loads(dedent(text), Path("lab.yaml"))
    return str(caught.value).splitlines()


def in_host(text: str) -> str:
    """A host with these keys, from line 3 on, and a switch."""
    body = "".join(f"    {line}\n" for line in dedent(text).splitlines())
    return f"hosts:\n  n1:\n{body}switches: {{sw1: }}\n"


HOST_TABLE = {
    "link to nowhere": (
        "links: [{to: sw9}]",
        '3: hosts.n1.links[0].to: no host or switch named "sw9"; did you mean "sw1"?',
    ),
    "link to itself": ("links: [{to: n1}]", "3: hosts.n1.links[0].to: a link to itself"),
    "link without an end": ("links: [{mtu: 1500}]", '3: hosts.n1.links[0]: needs "to"'),
    "links that are no list": (
        "links: sw1",
        '3: hosts.n1.links: must be a mapping, not "sw1"',
    ),
    "unknown key": (
        "links: [{to: sw1, adresses: 10.0.0.1/24}]",
        '3: hosts.n1.links[0].adresses: unknown key; did you mean "addresses"?',
    ),
    "key twice": (
        "links: []\nlinks: []",
        "4: hosts.n1.links: the key is already in line 3",
    ),
    "address without a prefix": (
        "links: [{to: sw1, addresses: 10.0.0.1}]",
        "3: hosts.n1.links[0].addresses: 10.0.0.1 needs a prefix length, for example 10.0.0.1/24",
    ),
    "no address at all": (
        "links: [{to: sw1, addresses: [10.0.0.256/24]}]",
        '3: hosts.n1.links[0].addresses[0]: "10.0.0.256/24" is not an address with prefix length',
    ),
    "the network's address": (
        "links: [{to: sw1, addresses: [10.0.0.0/24]}]",
        (
            "3: hosts.n1.links[0].addresses[0]: 10.0.0.0/24 is the network's own address, "
            "no interface can have it"
        ),
    ),
    "the broadcast address": (
        "links: [{to: sw1, addresses: [10.0.0.255/24]}]",
        (
            "3: hosts.n1.links[0].addresses[0]: 10.0.0.255/24 is the broadcast address, "
            "no interface can have it"
        ),
    ),
    "address twice on a host": (
        "links:\n- {to: sw1, addresses: 10.0.0.1/24}\n- {to: sw1, addresses: 10.0.0.1/24}",
        (
            "5: hosts.n1.links[1].addresses: the address 10.0.0.1 is already at "
            "hosts.n1.links[0].addresses in line 4"
        ),
    ),
    "MTU too small": (
        "links: [{to: sw1, mtu: 67}]",
        '3: hosts.n1.links[0].mtu: must be a number from 68 to 65535, not "67"',
    ),
    "MTU too large": (
        "links: [{to: sw1, mtu: 65536}]",
        '3: hosts.n1.links[0].mtu: must be a number from 68 to 65535, not "65536"',
    ),
    "MTU too small for IPv6": (
        "links: [{to: sw1, mtu: 1279, addresses: fd00::1/64}]",
        "3: hosts.n1.links[0].addresses: IPv6 needs an MTU of 1280 at least, the link has 1279",
    ),
    "interface name too long": (
        "links: [{to: sw1, interface: a-name-too-long0}]",
        (
            '3: hosts.n1.links[0].interface: "a-name-too-long0" is no name of an interface: '
            "15 characters at most, letters, digits, dot, hyphen and underscore"
        ),
    ),
    "interface twice": (
        "links:\n- {to: sw1, interface: lan}\n- {to: sw1, interface: lan}",
        '5: hosts.n1.links[1]: n1 has an interface "lan" already, in line 4',
    ),
    "loopback": (
        "links: [{to: sw1, interface: lo}]",
        "3: hosts.n1.links[0].interface: every host has lo already",
    ),
    "link name twice": (
        "links:\n- {to: sw1, name: wan}\n- {to: sw1, name: wan}",
        '5: hosts.n1.links[1]: the link "wan" is already in line 4',
    ),
    "multicast MAC": (
        "links: [{to: sw1, mac: '01:00:00:00:00:01'}]",
        (
            '3: hosts.n1.links[0].mac: "01:00:00:00:00:01" is not a MAC address of one interface: '
            "02:00:00:00:00:01"
        ),
    ),
    "VLAN out of range": (
        "links: [{to: sw1, vlan: 4095}]",
        '3: hosts.n1.links[0].vlan: must be a number from 1 to 4094, not "4095"',
    ),
    "VLAN tagged and not": (
        "links: [{to: sw1, vlan: 10, trunk: [10, 20]}]",
        "3: hosts.n1.links[0]: VLAN 10 is in vlan and trunk: it passes tagged or untagged",
    ),
    "port with a name": (
        "links: [{to: sw1, peer: {interface: p1}}]",
        "3: hosts.n1.links[0].peer: the port of a switch has neither name nor address",
    ),
    "subinterface of no VLAN": (
        "links: [{to: sw1, vlans: {red: }}]",
        "3: hosts.n1.links[0].vlans.red: a VLAN is a number from 1 to 4094",
    ),
    "subinterface name too long": (
        "links: [{to: sw1, interface: interface-12, vlans: {1000: }}]",
        (
            '3: hosts.n1.links[0].vlans.1000: "interface-12.1000" is too long for an interface: '
            'choose an "interface"'
        ),
    ),
    "impairment": (
        "links: [{to: sw1, impair: {delay: 10, loss: 101%, rate: 0mbit}}]",
        '3: hosts.n1.links[0].impair.delay: "10" is not a time: 200us, 10ms, 1.5s, 2m',
        "3: hosts.n1.links[0].impair.loss: a share is 100% at most",
        "3: hosts.n1.links[0].impair.rate: a rate must be more than 0",
    ),
    "jitter without delay": (
        "links: [{to: sw1, impair: {jitter: 1ms}}]",
        "3: hosts.n1.links[0].impair: jitter needs a delay that it varies",
    ),
    "route to nowhere": (
        "links: [{to: sw1, addresses: 10.0.0.1/24}]\nroutes: [{via: 10.1.0.1}]",
        "4: hosts.n1.routes[0]: the gateway 10.1.0.1 is in no subnet of n1's links",
    ),
    "route of two families": (
        "routes: [{to: 10.0.0.0/8, via: 'fd00::1'}]",
        "3: hosts.n1.routes[0]: 10.0.0.0/8 cannot be reached via fd00::1: not of one family",
    ),
    "route by no interface": (
        "routes: [{to: 10.0.0.0/8, dev: eth7}]",
        '3: hosts.n1.routes[0]: n1 has no interface "eth7"',
    ),
    "route without a way": (
        "routes: [{to: 10.0.0.0/8}]",
        '3: hosts.n1.routes[0]: needs "via" (a gateway) or "dev" (an interface)',
    ),
    "host bits set": (
        "routes: [{to: 10.0.0.1/8, dev: eth0}]",
        "3: hosts.n1.routes[0].to: 10.0.0.1/8 has host bits set: the subnet is 10.0.0.0/8",
    ),
    "container without a daemon": (
        "containers: {c1: {image: host}}",
        "3: hosts.n1.containers.c1: the host has no daemon: give it one (cnm: or docker:)",
    ),
    "two engines": (
        "cnm:\ndocker:\nnetworks: {a: }",
        '5: hosts.n1.networks.a: the host has cnm and docker: say "engine"',
    ),
    "engine that is not there": (
        "cnm:\nnetworks: {a: {engine: docker}}",
        '4: hosts.n1.networks.a.engine: the host has no daemon "docker"',
    ),
    "container name": (
        "cnm:\ncontainers: {c: {image: host}}",
        (
            '4: hosts.n1.containers.c: "c" is no name of a container: two characters at least, '
            "letters, digits, dot, hyphen and underscore"
        ),
    ),
    "network that is not there": (
        "cnm:\nnetworks: {localnet: }\ncontainers: {c1: {image: host, networks: [localnt]}}",
        (
            '5: hosts.n1.containers.c1.networks[0]: no network named "localnt" on this host; '
            'did you mean "localnet"?'
        ),
    ),
    "predefined network": (
        "cnm:\nnetworks: {bridge: }",
        '4: hosts.n1.networks.bridge: every engine has a network "bridge" of its own',
    ),
    "image that is not there": (
        "cnm:\ncontainers: {c1: {image: bosybox}}",
        '4: hosts.n1.containers.c1.image: no image "bosybox" under images; did you mean "busybox"?',
    ),
    "docker has no image host": (
        "docker:\ncontainers: {c1: {image: host}}",
        '4: hosts.n1.containers.c1.image: docker has no image "host", that is cnm\'s: take busybox',
    ),
    "ports": (
        "cnm:\ncontainers: {c1: {image: host, ports: [80, '5005:99999', 'x:80', '53:53/icmp']}}",
        (
            '4: hosts.n1.containers.c1.ports[1]: "99999" is not a port: '
            "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]"
        ),
        (
            '4: hosts.n1.containers.c1.ports[2]: "x" is not a port: '
            "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]"
        ),
        '4: hosts.n1.containers.c1.ports[3]: "icmp" is not tcp, udp or sctp',
    ),
    "one address for many": (
        (
            "cnm:\nnetworks: {a: }\n"
            "containers: {c: {image: host, count: 2, networks: {a: {ip: 10.1.0.2}}}}"
        ),
        (
            "5: hosts.n1.containers.c.count: several containers cannot share an address, "
            "a MAC address or a host port"
        ),
    ),
    "gateway outside": (
        "cnm:\nnetworks: {a: {subnets: [{subnet: 10.1.0.0/24, gateway: 10.2.0.1}]}}",
        "4: hosts.n1.networks.a.subnets[0]: the gateway 10.2.0.1 is not in 10.1.0.0/24",
    ),
    "not a boolean": (
        "cnm:\nnetworks: {a: {ipv6: maybe}}",
        '4: hosts.n1.networks.a.ipv6: must be true or false, not "maybe"',
    ),
    "a list for a text": (
        "cnm:\ncontainers: {c1: {image: [host]}}",
        "4: hosts.n1.containers.c1.image: needs a text, not a list",
    ),
    "the machine's sysctl": (
        "sysctls: {kernel.pid_max: 5}",
        (
            "3: hosts.n1.sysctls: kernel.pid_max is the whole machine's: "
            "a host has those that begin with net."
        ),
    ),
    "an open quotation": (
        "processes: {web: 'sh -c \"x'}",
        '3: hosts.n1.processes.web: sh -c "x: No closing quotation',
    ),
}


@pytest.mark.parametrize("case", HOST_TABLE.values(), ids=HOST_TABLE.keys())
def test_mistakes_in_a_host(case: tuple[str, ...]) -> None:
    text, *expected = case
    assert mistakes(in_host(text)) == [f"lab.yaml:{line}" for line in expected]


TABLE = {
    "empty": ("", "1: the file is empty"),
    "a list": ("- hosts", "1: must be a mapping, not a list"),
    "not YAML": ("hosts: [\n", "2: not YAML: did not find expected node content"),
    "a tab": ("hosts:\n\tn1:", "2: not YAML: found character that cannot start any token"),
    "two documents": (
        "hosts: {n1: }\n---\nhosts: {n2: }",
        "2: not YAML: but found another document",
    ),
    "no hosts": ("switches: {sw1: }", '1: needs "hosts"'),
    "unknown key": (
        "hsts: {}\nhosts: {n1: }",
        '1: hsts: unknown key; did you mean "hosts"?',
    ),
    "host name": (
        "hosts: {Node_1: }",
        (
            '1: hosts.Node_1: "Node_1" is no host name: small letters, digits and hyphens, '
            "32 characters at most"
        ),
    ),
    "host named switches": (
        "hosts: {switches: }",
        '1: hosts.switches: "switches" cannot be a host: the lab\'s switches have that name',
    ),
    "switch name": (
        "hosts: {n1: }\nswitches: {a-switch-too-long: }",
        (
            '2: switches.a-switch-too-long: "a-switch-too-long" is no name of a switch: '
            "small letters, digits and hyphens, 15 characters at most"
        ),
    ),
    "lab name": (
        "name: My Lab\nhosts: {n1: }",
        (
            '1: name: "My Lab" is no name of a lab: small letters, digits and hyphens, '
            "32 characters at most"
        ),
    ),
    "host and router": (
        "hosts: {a: }\nrouters: {a: }",
        '2: routers.a: "a" is already hosts.a in line 1',
    ),
    "host and switch": (
        "hosts: {a: }\nswitches: {a: }",
        '2: switches.a: "a" is already hosts.a in line 1',
    ),
    "cable to a host": (
        "hosts: {a: }\nswitches: {sw1: {links: [{to: a}]}}",
        '2: switches.sw1.links[0].to: no switch named "a": declare the link at the host',
    ),
    "VLAN between hosts": (
        "hosts: {a: {links: [{to: b, vlan: 5}]}, b: }",
        '1: hosts.a.links[0]: vlan and trunk are of a switch\'s port; a host has "vlans"',
    ),
    "address twice on two hosts": (
        (
            "hosts:\n"
            "  a: {links: [{to: s, addresses: 10.0.0.1/24}]}\n"
            "  b: {links: [{to: s, addresses: 10.0.0.1/24}]}\n"
            "switches: {s: }"
        ),
        (
            "3: hosts.b.links[0].addresses: the address 10.0.0.1 is already at "
            "hosts.a.links[0].addresses in line 2"
        ),
    ),
    "merged into itself": (
        "hosts: &h\n  n1: {<<: *h}\n",
        (
            "2: hosts.n1.n1: unknown key; known here: links, routes, sysctls, nameservers, search, "
            "processes, cnm, docker, etcd, networks, containers"
        ),
    ),
    "image without a file": (
        "hosts: {n1: }\nimages: {web: {rootfs: no-such.tar}}",
        f"2: images.web: no file {Path.cwd() / 'no-such.tar'}",
    ),
    "image without a source": (
        "hosts: {n1: }\nimages: {web: }",
        '2: images.web: needs a file: "rootfs" (a tar) or "archive" (of docker save)',
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_mistakes(case: tuple[str, ...]) -> None:
    text, *expected = case
    assert mistakes(text) == [f"lab.yaml:{line}" for line in expected]


CHECK_TABLE = {
    "unknown kind": (
        "pong: {from: node1, to: node2}",
        '11: checks[0].pong: unknown key; did you mean "ping"?',
    ),
    "two kinds": (
        "ping: {from: node1, to: node2}, tcp: {from: node1, to: node2, port: 1}",
        (
            "11: checks[0]: needs one of ping, resolve, http, tcp, udp, traceroute, throughput, "
            "run, packets; it has ping and tcp"
        ),
    ),
    "unknown host": (
        "ping: {from: node3, to: node2}",
        '11: checks[0].ping.from: no host named "node3"; did you mean "node2"?',
    ),
    "unknown container": (
        "ping: {from: node2/c2, to: node1}",
        '11: checks[0].ping.from: node2 has no container "c2"; did you mean "c1"?',
    ),
    "unknown target": (
        "ping: {from: node1, to: nod2}",
        (
            '11: checks[0].ping.to: no host, container or alias "nod2", and no address; '
            'did you mean "node2"?'
        ),
    ),
    "unknown link": (
        "packets: {on: node1:eth1}",
        '11: checks[0].packets.on: no link "node1:eth1"; did you mean "node1:eth0"?',
    ),
    "traceroute to what": (
        "traceroute: {from: node1, to: node2}",
        '11: checks[0].traceroute: needs "hops" or "via"',
    ),
    "traceroute, a mistake in what it must be": (
        "traceroute: {from: node1, to: node2, hops: far}",
        '11: checks[0].traceroute.hops: must be a number from 1 to 30, not "far"',
    ),
    "throughput, a mistake in what it must be": (
        "throughput: {from: node1, to: node2, at-least: fast}",
        '11: checks[0].throughput.at-least: "fast" is not a rate: 64kbit, 5mbit, 1gbit',
    ),
    "throughput of what": (
        "throughput: {from: node1, to: node2}",
        '11: checks[0].throughput: needs "at-least" or "at-most"',
    ),
    "no URL": (
        "http: {from: node1, url: node2}",
        '11: checks[0].http.url: "node2" is not a URL: http://ADDRESS[:PORT]/PATH',
    ),
    "retry": (
        "ping: {from: node1, to: node2}, within: soon",
        '11: checks[0].within: "soon" is not a time: 200us, 10ms, 1.5s, 2m',
    ),
}


@pytest.mark.parametrize("case", CHECK_TABLE.values(), ids=CHECK_TABLE.keys())
def test_mistakes_in_checks(case: tuple[str, ...]) -> None:
    text, *expected = case
    assert mistakes(f"{HOSTS}checks:\n  - {{{text}}}\n") == [
        f"lab.yaml:{line}" for line in expected
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = """\
    hosts:
      a:
        links:
          - {to: sw9, mtu: x}
        nets: {}
      b: {links: [{to: sw1, addresses: 10.0.0.1}], routes: [{via: 10.0.0.2}]}
    switches: {sw1: }
    checks: [{ping: {from: c, to: a}}]
    """
    assert mistakes(text) == [
        'lab.yaml:4: hosts.a.links[0].mtu: must be a number from 68 to 65535, not "x"',
        'lab.yaml:4: hosts.a.links[0].to: no host or switch named "sw9"; did you mean "sw1"?',
        'lab.yaml:5: hosts.a.nets: unknown key; did you mean "networks"?',
        (
            "lab.yaml:6: hosts.b.links[0].addresses: 10.0.0.1 needs a prefix length, "
            "for example 10.0.0.1/24"
        ),
        'lab.yaml:8: checks[0].ping.from: no host named "c"; known here: a, b',
    ]


def test_a_name_for_the_lab_is_needed_where_the_files_is_none() -> None:
    with pytest.raises(LabFileError, match='file\'s name is no good.*or give it a "name"'):
        loads("hosts: {n1: }", Path("My Lab.yaml"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no.yaml: No such file or directory"):
        load(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4\n")
    with pytest.raises(LabError, match="not a text file"):
        load(tmp_path / "latin.yaml")
