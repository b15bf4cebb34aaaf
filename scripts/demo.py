"""``make demo``: the main job for real, on a stage of its own.

A daemon with its own folders and socket in a network namespace of its own, so that
nothing of the machine is touched. Each command is shown as it could be typed, with its
real output, and every step is verified: the exit status is 0 only if all of them held
and nothing was left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import demoports
from demostage import Failed, Stage, paint, say, title, wait_until


def main() -> int:
    if os.geteuid() != 0:
        say("the demo makes network namespaces: it needs root (make demo uses sudo)")
        return 1
    stage = Stage()
    before, started = Machine.look(stage.tag), time.monotonic()
    try:
        try:
            play(stage)
        finally:
            stage.strike()
        title("Nothing is left behind")
        with contextlib.suppress(Failed):  # the supervisor ends two seconds after the daemon
            wait_until("nothing is left", lambda: Machine.look(stage.tag) <= before)
        left = Machine.look(stage.tag) - before
        if left:
            raise Failed("still on the machine:\n  " + "\n  ".join(sorted(left)))
        say("namespaces, links, rules, mounts, processes and sysctls: as before")
    except Failed as error:
        say(paint(f"\nFAILED: {error}", "1;31"))
        return 1
    say(paint(f"\nEvery step held ({time.monotonic() - started:.0f} s).", "1;32"))
    return 0


class Machine:
    """What of ours can be seen on the machine itself, outside the stage."""

    @staticmethod
    def look(tag: str) -> set[str]:
        """One line for each thing. Other programs come and go meanwhile: only marks count."""

        def lines(kind: str, mark: str, *command: str) -> set[str]:
            text = subprocess.run(command, capture_output=True, text=True).stdout
            return {f"{kind}: {line}" for line in text.splitlines() if mark in line}

        return {
            *lines("namespace", tag, "ip", "netns", "list"),
            *lines("link", "cnm", "ip", "-o", "link", "show"),
            *lines("rule", "cnm", "nft", "--stateless", "list", "ruleset"),
            *lines("mount", tag, "cat", "/proc/self/mounts"),
            *lines("process", f"{tag}-", "ps", "-eo", "pid,args"),
            *lines("sysctl", "=", "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        }


def play(stage: Stage) -> None:
    ann, bob, cat = (f"{stage.tag}-{name}" for name in ("ann", "bob", "cat"))
    two_networks(stage)
    three_containers(stage)
    reach_and_isolation(stage, ann, bob, cat)
    title("The picture, drawn from what the kernel shows")
    draw(stage)
    killed_and_repaired(stage, ann, bob, cat)
    real_containers(stage)
    names(stage)
    demoports.play(stage)
    tear_down(stage)


def two_networks(stage: Stage) -> None:
    title("A host of its own, and a daemon on it")
    stage.show(f"ip netns add {stage.host}")
    stage.show(f"ip -n {stage.host} link set lo up")
    say(paint(f"$ export CNM_HOST={stage.environment['CNM_HOST']}", "1"))
    stage.start()
    stage.show("net ls", "bridge", "host", "none")

    title("Two networks: one with defaults, one with IPv4 and IPv6")
    made = stage.show("net create -d bridge blue").strip()
    stage.show("net create --ipv6 --subnet 10.99.0.0/24 --subnet fd99::/64 green")
    stage.show("net ls", "blue", "green")
    stage.show(f"ip -n {stage.host} -br link show type bridge", f"br-{made[:12]}", "cnm0")


def three_containers(stage: Stage) -> None:
    title("Three network namespaces become containers; bob joins both networks")
    for name in ("ann", "bob", "cat"):
        stage.show(f"ip netns add {stage.tag}-{name}")
        stage.show(f"cnm adopt {name} --netns /run/netns/{stage.tag}-{name}")
    for network, name in (("blue", "ann"), ("blue", "bob"), ("green", "bob"), ("green", "cat")):
        stage.show(f"net connect {network} {name}")
    stage.show("cnm ps", "ann", "bob", "cat")
    stage.show("net inspect green", "fd99::/64", '"Name": "cat"')


def reach_and_isolation(stage: Stage, ann: str, bob: str, cat: str) -> None:
    title("Who shares a network reaches each other, over IPv4 and IPv6")
    stage.show(f"ip netns exec {ann} ping -c 2 -i 0.2 {address(stage, 'blue', 'bob')}", "0% packet")
    v6 = address(stage, "green", "bob", "IPv6Address")
    stage.show(f"ip netns exec {cat} ping -c 2 -i 0.2 {v6}", " 0% packet loss")

    title("Who does not, does not: ann is on blue only, cat on green only")
    lost = "100% packet loss"
    target = address(stage, "green", "cat")
    stage.show(f"ip netns exec {ann} ping -c 2 -i 0.2 -W 1 {target}", lost, status=1)
    say("and the two networks do not meet inside bob either:")
    target = address(stage, "green", "bob")
    stage.show(f"ip netns exec {ann} ping -c 2 -i 0.2 -W 1 {target}", lost, status=1)


def killed_and_repaired(stage: Stage, ann: str, bob: str, cat: str) -> None:
    title("kill -9 of the daemon while ann pings bob")
    target = address(stage, "blue", "bob")
    with background_ping(stage, ann, target) as pinging:
        assert stage.daemon is not None
        say(paint(f"$ kill -9 {stage.daemon.pid}", "1"))
        stage.stop(signal.SIGKILL)
        stage.show("net ls", "Cannot connect to the cnm daemon", status=1)
        stage.show(f"ip netns exec {ann} ping -c 1 {target}", " 0% packet loss")

        title("Meanwhile somebody deletes a link and a bridge's address by hand")
        stage.show(f"ip -n {stage.host} link delete {link_to(stage, 'bob', 'eth1')}")
        bridge = next(row["ifname"] for row in bridges(stage) if "10.99.0.1" in json.dumps(row))
        stage.show(f"ip -n {stage.host} address delete 10.99.0.1/24 dev {bridge}")
        v6 = address_in_kernel(stage, cat, "eth0", "inet6")
        stage.show(f"ip -n {bob} -br link show")

        title("The next start compares store and kernel, and repairs")
        stage.start()
        stage.show(f"ip -n {bob} -br address show", "eth1", "fd99::")
        stage.show(f"ip netns exec {bob} ping -c 2 -i 0.2 {v6}", " 0% packet loss")
        stage.show("net doctor")
        time.sleep(0.3)  # a few more packets after the repair
    say("ann's ping through all of it:")
    summary = pinging()
    say(f"  {summary}")
    if " 0% packet loss" not in summary:
        raise Failed("ann's ping lost packets while the daemon was dead")


def real_containers(stage: Stage) -> None:
    """W2's rows of containers, on the machine's own root and on an image of busybox."""
    title("Containers: the machine's own root, and an image made of Debian's busybox")
    archive = busybox_archive(stage.folder)
    stage.show(f"cnm import {archive} busybox", "sha256:")
    stage.show("cnm images", "busybox", "latest")
    stage.show("net create -d bridge localnet")
    stage.show("cnm run -d --name c1 --network localnet busybox sleep 1d")
    document = stage.show("net inspect localnet --format '{{json .Containers}}'", '"Name":"c1"')
    (entry,) = json.loads(document).values()
    ip = entry["IPv4Address"].partition("/")[0]
    octets = ":".join(f"{int(part):02x}" for part in ip.split("."))
    if entry["MacAddress"] != f"02:42:{octets}":
        raise Failed(f"MAC {entry['MacAddress']} is not derived from {ip}")
    (bridge,) = (row["ifname"] for row in bridges(stage) if ip_of(row) == entry_gateway(ip))
    stage.show(f"ip netns exec {stage.host} brctl show {bridge}", "veth")
    say("a second one, of the machine's own root, reaches it:")
    stage.show(f"cnm run --rm --network localnet host ping -c 2 -i 0.2 {ip}", " 0% packet loss")
    stage.show("cnm exec c1 hostname")
    stage.show("cnm run --rm busybox sh -c 'exit 7'", status=7)
    stage.show("cnm ps", "busybox", "c1")
    say("the daemon is killed; the container does not notice, and the next daemon has it:")
    stage.stop(signal.SIGKILL)
    stage.start()
    stage.show("cnm ps", "Up", "c1")
    stage.show("cnm exec c1 ip -4 -o address show eth0", ip)
    stage.show("cnm rm -f c1", "c1")
    stage.show("cnm rmi busybox", "Untagged: busybox:latest")
    stage.show("net rm localnet", "localnet")


def names(stage: Stage) -> None:
    """W5: containers of a user network find each other by name, the daemon running or not."""
    title("Names: a resolver in every sandbox, which does not need the daemon")
    stage.show("net create shop")
    stage.show("net create elsewhere")
    stage.show("cnm run -d --name web --network shop --network-alias www host sleep 1d")
    stage.show("cnm run -d --name asks --network shop --dns-search example.com host sleep 1d")
    stage.show("cnm run -d --name stranger --network elsewhere host sleep 1d")
    ip = stage.read("cnm inspect web")[0]["NetworkSettings"]["Networks"]["shop"]
    address = ip["IPAddress"]
    stage.show("cnm exec asks cat /etc/resolv.conf", "nameserver 127.0.0.11", "search example.com")
    for name in ("web", "www", "web.shop"):
        stage.show(f"cnm exec asks dig +short {name}", address)
    stage.show(f"cnm exec asks dig +short -x {address}", "web.shop.")
    stage.show("cnm exec asks getent hosts web", address)
    stage.show("cnm exec asks ping -c 1 web", " 0% packet loss")
    say("a name of ours without that type is no error; elsewhere the name is not known:")
    stage.show("cnm exec asks dig web MX", "status: NOERROR")
    said = stage.show("cnm exec stranger dig +tries=1 +time=6 web")
    if address in said:
        raise Failed("a name is known outside its network")
    stage.show("net dns stats", "asks")
    say("the daemon is killed; names are answered all the same:")
    pid = stage.read("cnm inspect asks")[0]["State"]["Pid"]
    stage.stop(signal.SIGKILL)
    stage.show(f"nsenter --net=/proc/{pid}/ns/net dig +short @127.0.0.11 web", address)
    stage.start()
    stage.show("cnm exec asks dig +short web", address)
    stage.show("cnm rm -f web asks stranger", "web")
    stage.show("net rm shop elsewhere", "shop")


def busybox_archive(folder: Path) -> Path:
    """The tar of a root file system: busybox, and its names as links."""
    archive = folder / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "hostname", "ip", "ping", "cat", "ls"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive


def ip_of(row: dict[str, Any]) -> str:
    """A bridge's first IPv4 address."""
    found = [item["local"] for item in row["addr_info"] if item["family"] == "inet"]
    return str(found[0]) if found else ""


def entry_gateway(ip: str) -> str:
    """The gateway of a default pool that an address is of."""
    return f"{ip.rpartition('.')[0]}.1"


def tear_down(stage: Stage) -> None:
    title("What is in use is not removed; what is not, goes")
    stage.show("net rm blue", "has active endpoints", status=1)
    for network, name in (("blue", "ann"), ("blue", "bob")):
        stage.show(f"net disconnect {network} {name}")
    stage.show("net prune -f", "Deleted Networks:", "blue")
    for name in ("ann", "bob", "cat"):
        stage.show(f"cnm release {name}")
    stage.show(f"ip -n {stage.tag}-bob -br link show")
    stage.show("net rm green", "green")
    stage.show("net ls")
    left = [row["ifname"] for row in bridges(stage)]
    if left != ["cnm0"]:
        raise Failed(f"bridges after the removal of both networks: {left}")
    stage.stop(signal.SIGTERM)


@contextlib.contextmanager
def background_ping(stage: Stage, namespace: str, target: str) -> Iterator[Callable[[], str]]:
    """A ping that goes on; what is yielded gives its summary once the block is left."""
    command = f"ip netns exec {namespace} ping -i 0.1 {target}"
    say(paint(f"$ {command} &", "1"))
    output = stage.folder / "ping.log"
    with output.open("wb") as file:
        process = subprocess.Popen(shlex.split(command), stdout=file, stderr=file)
    stage.others.append(process)
    wait_until("the first answer", lambda: b"bytes from" in output.read_bytes())

    def summary() -> str:
        return re.findall(r".*packet loss.*", output.read_text())[0]

    yield summary
    process.send_signal(signal.SIGINT)  # ping prints its summary
    process.wait()


def address(stage: Stage, network: str, name: str, field: str = "IPv4Address") -> str:
    (document,) = stage.read(f"net inspect {network}")
    rows = document["Containers"].values()
    return next(row[field].split("/")[0] for row in rows if row["Name"] == name)


def address_in_kernel(stage: Stage, namespace: str, link: str, family: str) -> str:
    (row,) = stage.read(f"ip -n {namespace} -j address show dev {link}")
    found = (item for item in row["addr_info"] if item["family"] == family)
    return next(str(item["local"]) for item in found if item["scope"] == "global")


def bridges(stage: Stage) -> list[dict[str, Any]]:
    return list(stage.read(f"ip -n {stage.host} -j -d address show type bridge"))


def link_to(stage: Stage, name: str, inside: str) -> str:
    """The host's end of a container's link."""
    (row,) = stage.read(f"ip -n {stage.tag}-{name} -j link show dev {inside}")
    links = stage.read(f"ip -n {stage.host} -j link show type veth")
    return next(link["ifname"] for link in links if link["ifindex"] == row["link_index"])


def draw(stage: Stage) -> None:
    """Bridges, their ports, and what is at each port's other end."""
    names = {item["Id"][:12]: item["Name"] for item in stage.read("net inspect blue green")}
    ends = {}
    for name in ("ann", "bob", "cat"):
        for row in stage.read(f"ip -n {stage.tag}-{name} -j address show"):
            if "link_index" in row:
                ends[row["link_index"]] = f"{row['ifname']} in {name}  {addresses(row)}"
    ports = stage.read(f"ip -n {stage.host} -j link show type veth")
    say(f"{stage.host}")
    rows = [row for row in bridges(stage) if row["ifname"].removeprefix("br-") in names]
    for bridge in rows:
        last = bridge is rows[-1]
        network = names[bridge["ifname"].removeprefix("br-")]
        say(f"{'└' if last else '├'}── {network}: {bridge['ifname']}  {addresses(bridge)}")
        own = [port for port in ports if port.get("master") == bridge["ifname"]]
        if len(own) != 2:
            raise Failed(f"{bridge['ifname']} has {len(own)} ports, not 2")
        for port in own:
            bar = " " if last else "│"
            corner = "└" if port is own[-1] else "├"
            say(f"{bar}   {corner}── {port['ifname']} ═══ {ends[port['ifindex']]}")


def addresses(row: dict[str, Any]) -> str:
    found = (item for item in row["addr_info"] if item["scope"] == "global")
    return "  ".join(f"{item['local']}/{item['prefixlen']}" for item in found)


if __name__ == "__main__":
    sys.exit(main())
