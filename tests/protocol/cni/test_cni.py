"""ADD, DEL, CHECK, GC, STATUS, VERSION: the executable against a real daemon."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from livedaemon import LiveDaemon, run
from patience import patient
from protocol.cni.conftest import Runtime, outcome

pytestmark = pytest.mark.kernel

DEADLINE_S = patient(20.0)


def addresses(daemon: LiveDaemon, netns: str) -> set[str]:
    return {
        f"{item['local']}/{item['prefixlen']}"
        for link in daemon.ip("address", "show", "scope", "global", netns=netns)
        for item in link["addr_info"]
    }


def links(daemon: LiveDaemon, netns: str) -> set[str]:
    return {link["ifname"] for link in daemon.ip("link", netns=netns)}


def wait_for_no_container(daemon: LiveDaemon) -> None:
    end = time.monotonic() + DEADLINE_S
    while daemon.cnm("ps", "-aq").stdout:
        assert time.monotonic() < end, daemon.cnm("ps", "-a").stdout
        time.sleep(0.05)


def test_a_whole_life(daemon: LiveDaemon, runtime: Runtime) -> None:
    one, two = daemon.namespace("one"), daemon.namespace("two")
    result = runtime.add("first", one, conf=runtime.conf(dns={"search": ["x.test"]}))
    mac = daemon.ip("link", "show", "eth0", netns=one)[0]["address"]
    assert result == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": mac, "sandbox": f"/run/netns/{one}"}],
        "ips": [{"address": "10.77.0.2/24", "interface": 0, "gateway": "10.77.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.0.1"}],
        "dns": {"nameservers": ["127.0.0.11"], "search": ["x.test"]},
    }
    named = {"aliases": ["web"]}
    runtime.add("second", two, conf=runtime.conf(runtimeConfig=named), CNI_ARGS="K8S_POD_NAME=pod")
    daemon.inside(one, "ping", "-c", "1", "-W", "5", "10.77.0.3")
    for name in ("web", "pod", "second"):
        asked = daemon.inside(one, "dig", "+short", "@127.0.0.11", name).stdout
        assert asked == "10.77.0.3\n", name
    checked = runtime.conf(prevResult=result)
    assert runtime("CHECK", "first", one, checked) == (0, None)
    for _ in range(2):
        assert runtime("DEL", "first", one) == (0, None)
    assert links(daemon, one) == {"lo"}
    assert runtime("DEL", "second", "") == (0, None)
    assert daemon.cnm("ps", "-aq").stdout == ""
    daemon.net("rm", "pods")


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_results_of_each_version(daemon: LiveDaemon, runtime: Runtime, version: str) -> None:
    conf = runtime.conf(
        cniVersion=version,
        subnets=[{"subnet": "10.78.0.0/24"}, {"subnet": "fd78::/64", "gateway": "fd78::1"}],
        ipv6=True,
    )
    del conf["subnet"]
    result = runtime.add("c1", daemon.namespace(), conf=conf)
    family = {"version": "4"}, {"version": "6"}
    v4, v6 = family if version.startswith("0.") else ({}, {})
    assert result["cniVersion"] == version
    assert result["ips"] == [
        {"address": "10.78.0.2/24", "interface": 0, "gateway": "10.78.0.1", **v4},
        {"address": "fd78::2/64", "interface": 0, "gateway": "fd78::1", **v6},
    ]


def test_what_runtimes_ask_for(daemon: LiveDaemon, runtime: Runtime) -> None:
    netns = daemon.namespace()
    wish = {
        "ips": ["10.77.0.50/24"],
        "mac": "02:11:22:33:44:55",
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    }
    runtime.add("c1", netns, conf=runtime.conf(runtimeConfig=wish), interface="lan0")
    assert addresses(daemon, netns) == {"10.77.0.50/24"}
    assert daemon.ip("link", "show", "lan0", netns=netns)[0]["address"] == "02:11:22:33:44:55"
    assert daemon.cnm("port", "c1", "80").stdout.splitlines()[0] == "0.0.0.0:8080"
    other = daemon.namespace()
    code, message = runtime.error("ADD", "c2", other, runtime.conf(runtimeConfig=wish))
    assert (code, "10.77.0.50" in message or "in use" in message) == (100, True)
    del wish["ips"], wish["mac"]
    code, message = runtime.error("ADD", "c2", other, runtime.conf(runtimeConfig=wish))
    assert code == 100
    assert "8080 failed: port is already allocated" in message
    assert links(daemon, other) == {"lo"}
    assert daemon.cnm("ps", "-q").stdout.count("\n") == 1
    for by in ({"args": {"cni": {"ips": ["10.77.0.60"]}}}, {}):
        runtime("DEL", "c2", other)
        result = runtime.add("c2", other, conf=runtime.conf(**by), CNI_ARGS="IP=10.77.0.61")
        assert result["ips"][0]["address"] == f"10.77.0.{60 if by else 61}/24"


def test_two_networks_of_one_container(daemon: LiveDaemon, runtime: Runtime) -> None:
    netns = daemon.namespace()
    first = runtime.add("c1", netns)
    more = runtime.conf(name="more", subnet="10.79.0.0/24", prevResult=first)
    both = runtime.add("c1", netns, conf=more, interface="net1")
    assert [item["name"] for item in both["interfaces"]] == ["eth0", "net1"]
    assert [item["interface"] for item in both["ips"]] == [0, 1]
    assert links(daemon, netns) == {"lo", "eth0", "net1"}
    assert runtime("DEL", "c1", netns) == (0, None)
    assert links(daemon, netns) == {"lo", "net1"}
    assert runtime("DEL", "c1", netns, more, interface="net1") == (0, None)
    assert links(daemon, netns) == {"lo"}
    assert daemon.cnm("ps", "-aq").stdout == ""


def test_a_network_that_exists(daemon: LiveDaemon, runtime: Runtime) -> None:
    conf = {"cniVersion": "1.1.0", "name": "any", "type": "cnm-cni", "network": "blue"}
    netns = daemon.namespace()
    assert runtime.error("STATUS", conf=conf) == (50, "network blue not found")
    assert runtime.error("ADD", "c1", netns, conf) == (7, "network blue not found")
    daemon.net("create", "--subnet", "10.80.0.0/24", "blue")
    assert runtime("STATUS", conf=conf) == (0, None)
    assert runtime.add("c1", netns, conf=conf)["ips"][0]["address"] == "10.80.0.2/24"


def test_many_at_once(daemon: LiveDaemon, runtime: Runtime) -> None:
    """They make the network together: one does, the others find it."""
    spaces = [daemon.namespace() for _ in range(8)]
    calls = [runtime.start("ADD", f"many{i}", netns) for i, netns in enumerate(spaces)]
    results = [outcome(call) for call in calls]
    assert [status for status, _ in results] == [0] * 8, results
    assert len({document["ips"][0]["address"] for _, document in results}) == 8
    twice = [runtime.start("ADD", "twin", daemon.namespace("twin"), conf) for conf in [None] * 2]
    assert sorted(status for status, _ in map(outcome, twice)) == [0, 1]
    calls = [runtime.start("DEL", f"many{i}", "") for i in range(8)]
    assert [outcome(call) for call in calls] == [(0, None)] * 8


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        (("route", "delete", "default"), "default route by 10.77.0.1 is missing"),
        (("address", "flush", "dev", "eth0"), "address 10.77.0.2/24 is missing"),
        (("link", "delete", "eth0"), "interface eth0 is missing"),
    ],
)
def test_check_tells_what_differs(
    daemon: LiveDaemon, runtime: Runtime, damage: tuple[str, ...], missing: str
) -> None:
    netns = daemon.namespace()
    checked = runtime.conf(prevResult=runtime.add("c1", netns))
    assert runtime("CHECK", "c1", netns, checked) == (0, None)
    daemon.inside(netns, "ip", *damage)
    code, message = runtime.error("CHECK", "c1", netns, checked)
    assert code == 101
    assert missing in message
    daemon.net("doctor")  # puts it right
    assert runtime("CHECK", "c1", netns, checked) == (0, None)


def test_check_of_another_life(daemon: LiveDaemon, runtime: Runtime) -> None:
    netns = daemon.namespace()
    assert runtime.error("CHECK", "c1", netns) == (7, "required prevResult missing")
    result = runtime.add("c1", netns)
    result["ips"][0]["address"] = "10.77.0.9/24"
    code, message = runtime.error("CHECK", "c1", netns, runtime.conf(prevResult=result))
    assert (code, message) == (101, "container c1: address 10.77.0.2/24 is not in prevResult")
    runtime("DEL", "c1", netns)
    code, message = runtime.error("CHECK", "c1", netns, runtime.conf(prevResult=result))
    assert (code, "is not attached to network pods" in message) == (101, True)


def test_collecting(daemon: LiveDaemon, runtime: Runtime) -> None:
    spaces = {name: daemon.namespace(name) for name in ("keep", "drop", "other")}
    runtime.add("keep", spaces["keep"])
    runtime.add("drop", spaces["drop"])
    runtime.add("other", spaces["other"], conf=runtime.conf(name="two", subnet="10.81.0.0/24"))
    valid = [{"containerID": "keep", "ifname": "eth0"}]
    gc = runtime.conf(**{"cni.dev/valid-attachments": valid})
    assert runtime("GC", conf=gc) == (0, None)
    assert daemon.cnm("ps", "--format", "{{.Names}}").stdout.split() == ["other", "keep"]
    assert links(daemon, spaces["drop"]) == {"lo"}


def test_a_namespace_that_is_gone(daemon: LiveDaemon, runtime: Runtime) -> None:
    netns = daemon.namespace()
    runtime.add("c1", netns)
    with without_namespace(netns):
        assert runtime("DEL", "c1", netns) == (0, None)
        assert daemon.cnm("ps", "-aq").stdout == ""


def test_a_container_that_somebody_adopted_is_not_taken_over(
    daemon: LiveDaemon, runtime: Runtime
) -> None:
    """Its networks would come along, and it would be forgotten with the attachment."""
    theirs = daemon.adopt("c1")
    daemon.net("create", "blue")
    daemon.net("connect", "blue", "c1")
    other = daemon.namespace()
    for gone in (False, True):
        with without_namespace(theirs) if gone else contextlib.nullcontext():
            if gone:
                daemon.net("doctor")
            code, message = runtime.error("ADD", "c1", other)
            assert code == 100
            assert 'The container name "/c1" is already in use' in message
            assert runtime("DEL", "c1", other) == (0, None)
            assert daemon.cnm("ps", "-a", "--format", "{{.Names}}").stdout == "c1\n"
            assert links(daemon, other) == {"lo"}


@contextlib.contextmanager
def without_namespace(netns: str) -> Iterator[None]:
    """It comes back in the end, or the fixture would miss it."""
    run("ip", "netns", "delete", netns)
    try:
        yield
    finally:
        run("ip", "netns", "add", netns)


def test_without_a_daemon(daemon: LiveDaemon, runtime: Runtime) -> None:
    netns, stays = daemon.namespace("goes"), daemon.namespace("stays")
    checked = runtime.conf(prevResult=runtime.add("c1", netns))
    runtime.add("c2", stays)
    daemon.kill()
    unreachable = f"Cannot connect to the cnm daemon at {daemon.host}"
    code, message = runtime.error("ADD", "c3", daemon.namespace())
    assert (code, message.startswith(unreachable)) == (11, True)
    assert "\n" not in message
    assert message.removeprefix(f"{unreachable}. ").startswith(
        "Is the cnm daemon running? start it with: cnm daemon"
    )
    code, message = runtime.error("STATUS")
    assert (code, message.startswith(unreachable)) == (50, True)
    assert runtime.error("CHECK", "c1", netns, checked)[0] == 11
    for _ in range(2):
        assert runtime("DEL", "c1", netns) == (0, None)
    pending = daemon.socket.with_name(f"{daemon.socket.name}.cni-pending")
    (pending / "nonsense.json").write_text("{")
    (pending / f"draft.json.{1 << 30}").write_text("")
    assert runtime("DEL", "stranger", "") == (0, None)
    daemon.start()
    end = time.monotonic() + DEADLINE_S
    while list(pending.iterdir()):
        assert time.monotonic() < end, list(pending.iterdir())
        time.sleep(0.05)
    assert links(daemon, netns) == {"lo"}
    assert daemon.cnm("ps", "--format", "{{.Names}}").stdout == "c2\n"
    assert runtime.add("c1", netns)["ips"][0]["address"] == "10.77.0.2/24"


def test_a_container_made_again_beside_a_dead_daemon(daemon: LiveDaemon, runtime: Runtime) -> None:
    """Its namespace went, and it came back under the same id with another one."""
    netns = daemon.namespace("first")
    runtime.add("c1", netns)
    daemon.kill()
    with without_namespace(netns):
        daemon.start()
        wait_for_no_container(daemon)
        second = daemon.namespace("second")
        assert runtime.add("c1", second)["ips"][0]["address"] == "10.77.0.2/24"


@pytest.mark.parametrize(
    ("conf", "code", "message"),
    [
        (b"nonsense", 6, "cannot decode network config: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", 6, "cannot decode network config: not a JSON object"),
        ({"cniVersion": "2.0.0", "name": "pods"}, 1, "incompatible CNI versions"),
        ({"name": "pods"}, 1, "incompatible CNI versions"),
        ({"cniVersion": "1.1.0"}, 7, "invalid network name: null"),
        ({"cniVersion": "1.1.0", "name": "a/b"}, 7, 'invalid network name: "a/b"'),
        (
            {"cniVersion": "1.1.0", "name": "pods", "subnett": "10.0.0.0/8"},
            2,
            "unsupported field subnett in network config: 10.0.0.0/8",
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "subnet": 7},
            7,
            "invalid network config: subnet must be a text",
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "subnet": "10.77.0.0/33"},
            7,
            "invalid network config: invalid subnet 10.77.0.0/33: invalid CIDR block notation",
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "network": "blue", "mtu": 1400},
            7,
            "invalid network config: network names one that exists; mtu would make one",
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "runtimeConfig": {"ips": "10.0.0.1"}},
            7,
            "invalid network config: runtimeConfig.ips must be a list",
        ),
        (  # CVE-2021-20206: what a configuration names is run by nobody
            {"cniVersion": "1.1.0", "name": "pods", "ipam": {"type": "../../bin/sh"}},
            2,
            "unsupported field ipam in network config: {'type': '../../bin/sh'}",
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "driver": "../../../bin/sh"},
            7,
            'plugin "../../../bin/sh" not found',
        ),
        (
            {"cniVersion": "1.1.0", "name": "pods", "prevResult": {"ips": [1]}},
            7,
            "invalid prevResult: ips must have objects",
        ),
    ],
)
def test_what_is_refused(
    daemon: LiveDaemon, runtime: Runtime, conf: Any, code: int, message: str
) -> None:
    before = daemon.net("ls", "-q").stdout
    assert runtime.error("ADD", "c1", daemon.namespace(), conf) == (code, message)
    assert daemon.net("ls", "-q").stdout == before
    assert daemon.cnm("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CNI_CONTAINERID": ""}, "required env variables [CNI_CONTAINERID] missing"),
        ({"CNI_IFNAME": "a" * 16}, f"invalid CNI_IFNAME: '{'a' * 16}'"),
        ({"CNI_IFNAME": "a/b"}, "invalid CNI_IFNAME: 'a/b'"),
        ({"CNI_CONTAINERID": "-x"}, "invalid CNI_CONTAINERID: '-x'"),
        ({"CNI_COMMAND": "EAT"}, 'unknown CNI_COMMAND: "EAT"'),
        ({"CNI_ARGS": "x"}, 'invalid CNI_ARGS: "x" is no KEY=VALUE'),
    ],
)
def test_environments_that_are_refused(
    runtime: Runtime, environment: dict[str, str], message: str
) -> None:
    assert runtime.error("ADD", "c1", "nowhere", **environment) == (4, message)


def test_other_failures(daemon: LiveDaemon, runtime: Runtime) -> None:
    code, message = runtime.error("ADD", "c1", "nowhere")
    assert (code, message) == (7, "no network namespace at /run/netns/nowhere: no such file")
    netns = daemon.namespace()
    daemon.inside(netns, "ip", "link", "add", "eth0", "type", "bridge")
    code, message = runtime.error("ADD", "c1", netns)
    assert (code, message) == (100, 'interface name "eth0" is taken in container c1')
    assert links(daemon, netns) == {"lo", "eth0"}
    old = runtime.conf(cniVersion="0.3.1")
    assert runtime.error("CHECK", "c1", netns, old)[0] == 1
    assert runtime.error("GC", conf=runtime.conf(cniVersion="1.0.0"))[0] == 1
    odd = runtime.conf(**{"cni.dev/valid-attachments": [{}]})
    assert runtime.error("GC", conf=odd)[0] == 7


def test_version(runtime: Runtime) -> None:
    status, document = runtime("VERSION", conf=b"")
    assert (status, document) == (
        0,
        {
            "cniVersion": "1.1.0",
            "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        },
    )
