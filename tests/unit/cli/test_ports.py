"""``net publish|unpublish`` and ``net firewall``."""

from __future__ import annotations

import json

from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

PLACES = [{"HostIp": "0.0.0.0", "HostPort": "5005"}, {"HostIp": "::", "HostPort": "5005"}]


def sent(server: Answering) -> object:
    return server.requests[-1].body


def test_publish_prints_what_was_asked_for(server: Answering, served: CommandLine) -> None:
    ports = {"80/tcp": PLACES, "81/tcp": PLACES}
    server.answer("POST", "/cnm/v1/containers/web/publish", {"Ports": ports})
    out = "80/tcp -> 0.0.0.0:5005\n80/tcp -> [::]:5005\n"
    assert served("net publish web 5005:80") == (0, out, "")
    assert sent(server) == {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "5005"}]}}


def test_publish_says_what_waits(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/cnm/v1/containers/web/publish", {"Ports": {}})
    text = "80/tcp, 53/udp: published when web runs on a network that is not internal\n"
    assert served("net publish web 80 53:53/udp") == (0, "", text)


def test_publish_refuses_before_it_asks(server: Answering, served: CommandLine) -> None:
    for words, text in (
        ("5005:65536", "invalid containerPort: 65536\n"),
        ("65536:80", "invalid hostPort: 65536\n"),
        ("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3\n"),
        ("80/foo", "invalid proto: foo\n"),
        ("300.1.1.1:80:80", "invalid IP address: 300.1.1.1\n"),
    ):
        assert served(f"net publish web {words}") == (1, "", text)
    assert server.requests == []


def test_unpublish(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/cnm/v1/containers/web/unpublish", {"Ports": {}})
    assert served("net unpublish web") == (0, "", "")
    assert sent(server) == {"PortBindings": None}
    assert served("net unpublish web 127.0.0.1:5005:80/udp") == (0, "", "")
    binding = {"HostIp": "127.0.0.1", "HostPort": "5005"}
    assert sent(server) == {"PortBindings": {"80/udp": [binding]}}


def test_errors_are_the_daemons(server: Answering, served: CommandLine) -> None:
    server.refuse("POST", "/cnm/v1/containers/web/publish", 500, "Bind for 0.0.0.0:5005 failed")
    text = "Error response from daemon: Bind for 0.0.0.0:5005 failed\n"
    assert served("net publish web 5005:80") == (1, "", text)


RULE = {
    "Family": "inet",
    "Table": "cnm-bridge",
    "Place": "ports4",
    "Text": "tcp . 5005 : 10.1.0.2 . 80",
    "Purpose": "published port",
    "Packets": None,
    "Bytes": None,
    "Network": "blue",
    "Container": "web",
}


def test_firewall_show(server: Answering, served: CommandLine) -> None:
    counted = {**RULE, "Place": "forward", "Text": "drop", "Packets": 7, "Bytes": 420}
    server.answer("GET", "/cnm/v1/firewall/rules", {"Rules": [RULE, counted]})
    head, first, second = served("net firewall show").out.splitlines()
    assert head.split() == ["FAMILY", "TABLE", "PLACE", "PACKETS", "RULE", "PURPOSE"]
    assert first.endswith("tcp . 5005 : 10.1.0.2 . 80   published port")
    assert second.split()[3:5] == ["7", "drop"]
    line = served("net firewall show --format '{{.Network}} {{.Container}} {{.Bytes}}'").out
    assert line == "blue web \nblue web 420\n"


def test_firewall_check(server: Answering, served: CommandLine) -> None:
    reach = {
        "Container": "web",
        "Network": "blue",
        "PrivatePort": 80,
        "Type": "tcp",
        "IP": "::",
        "PublicPort": 5005,
        "From": "LAN",
        "Reaches": False,
        "Because": "ufw's policy",
    }
    server.answer("GET", "/cnm/v1/firewall/reach", {"Ports": [reach]})
    lines = served("net firewall check").out.splitlines()
    assert lines[0].split() == ["CONTAINER", "PORT", "ADDRESS", "FROM", "REACHES", "BECAUSE"]
    assert lines[1].split() == ["web", "80/tcp", "[::]:5005", "LAN", "no", "ufw's", "policy"]
    document = json.loads(served("net firewall check web --format json").out)
    assert (document["Address"], document["Reaches"]) == ("[::]:5005", "no")
    header = "CONTAINER   PORT      ADDRESS   FROM      REACHES   BECAUSE\n"
    assert served("net firewall check db") == (1, header, "db publishes no ports\n")
