"""``cnm net …``: what is asked, what is printed, the statuses."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine
from unit.cli.documents import NETWORK_ID, network

HEADER = "NETWORK ID     NAME      DRIVER    SCOPE\n"


@pytest.fixture
def networks(server: Answering) -> Answering:
    """Three networks, one of them by its name."""
    names = ("net10", "bridge", "net9")
    server.answer("GET", "/networks", [network(Name=name) for name in names])
    server.answer("GET", "/networks/b", network())
    for missing in ("nope", "gone"):
        server.refuse("GET", f"/networks/{missing}", 404, f"network {missing} not found")
        server.refuse("DELETE", f"/networks/{missing}", 404, f"network {missing} not found")
    server.answer("DELETE", "/networks/b", status=204)
    server.refuse("DELETE", "/networks/used", 403, "error while removing network: used")
    return server


@pytest.mark.parametrize("alias", ["ls", "list"])
def test_ls(networks: Answering, served: CommandLine, alias: str) -> None:
    rows = [f"{NETWORK_ID[:12]}   {name:<10}bridge    local\n" for name in
            ("bridge", "net9", "net10")]  # fmt: skip
    assert served(f"net {alias}") == (0, HEADER + "".join(rows), "")
    assert networks.requests == [("GET", "/v1.51/networks", None)]


def test_ls_whole_ids(networks: Answering, served: CommandLine) -> None:
    assert served("net ls -q --no-trunc").out == f"{NETWORK_ID}\n" * 3


def test_ls_formats(networks: Answering, served: CommandLine) -> None:
    form = '{{.Name}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label "l1"}} {{.CreatedAt}}'
    line = "true false false l0=v0,l1=v1 v1 2024-01-01 00:00:00.123456789 +0000 UTC"
    printed = served(f"net ls --format '{form}'").out
    assert printed.splitlines() == [f"{name} {line}" for name in ("bridge", "net9", "net10")]
    assert json.loads(served("net ls --format json").out.splitlines()[0])["Driver"] == "bridge"


def test_ls_filters(networks: Answering, served: CommandLine) -> None:
    served("net ls -f name=x -f name=y --filter driver=bridge")
    asked = '{"driver":{"bridge":true},"name":{"x":true,"y":true}}'
    encoded = "".join(letter if letter.isalnum() else f"%{ord(letter):02X}" for letter in asked)
    assert networks.requests[0].target == f"/v1.51/networks?filters={encoded}"


def test_ls_bad_template(networks: Answering, served: CommandLine) -> None:
    assert served("net ls --format '{{.Nope}}'") == (
        1,
        "",
        (
            'template parsing error: template: :1:2: executing "" at <.Nope>: '
            "can't evaluate field Nope in type *network.networkContext\n"
        ),
    )


def test_inspect(networks: Answering, served: CommandLine) -> None:
    status, out, err = served("net inspect b")
    assert (status, err) == (0, "")
    assert json.loads(out) == [network()]
    assert out.startswith('[\n    {\n        "Name": "b",\n')
    assert '"Options": null' in out


def test_inspect_goes_on(networks: Answering, served: CommandLine) -> None:
    status, out, err = served("net inspect nope b gone")
    assert status == 1
    assert json.loads(out) == [network()]
    assert err == (
        "Error response from daemon: network nope not found\n"
        "Error response from daemon: network gone not found\n"
    )


def test_inspect_nothing(networks: Answering, served: CommandLine) -> None:
    missing = "Error response from daemon: network nope not found\n"
    assert served("net inspect nope") == (1, "[]\n", missing)
    assert served("net inspect -f '{{.Name}}' nope") == (1, "\n", missing)


def test_inspect_formats(networks: Answering, served: CommandLine) -> None:
    assert served("net inspect -f '{{.Name}} {{.Options}}' b b").out == "b map[a:<&> z:1]\n" * 2
    assert json.loads(served("net inspect -f json b").out) == [network()]
    assert served("net inspect -f '{{.Name' b") == (
        64,
        "",
        "template parsing error: template: :1: unclosed action\n",
    )
    assert served("net inspect -v b").status == 0
    assert networks.requests[-1].target == "/v1.52/networks/b?verbose=true"


def test_rm_goes_on(networks: Answering, served: CommandLine) -> None:
    status, out, err = served("net rm b nope used b")
    assert (status, out) == (1, "b\nb\n")
    assert err == (
        "Error response from daemon: network nope not found\n"
        "Error response from daemon: error while removing network: used\n"
    )


def test_rm_force_ignores_the_missing_only(networks: Answering, served: CommandLine) -> None:
    assert served("net rm -f nope b") == (0, "b\n", "")
    assert served("net remove -f used").status == 1


def test_create_plain(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/networks/create", {"Id": NETWORK_ID, "Warning": ""}, 201)
    assert served("net create n") == (0, f"{NETWORK_ID}\n", "")
    assert server.requests[0].body == plain_request()


def plain_request(**changes: Any) -> dict[str, Any]:
    return {
        "Name": "n",
        "Driver": "bridge",
        "Scope": "",
        "IPAM": {"Driver": "default", "Options": {}, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigOnly": False,
        "ConfigFrom": None,
        "Options": {},
        "Labels": {},
        **changes,
    }


def test_create_with_everything(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/networks/create", {"Id": NETWORK_ID, "Warning": "mind"}, 201)
    line = (
        "net create -d macvlan --subnet 10.0.0.0/24,fd00::/64 --ip-range 10.0.0.128/25 "
        "--gateway 10.0.0.1 --aux-address a=10.0.0.2 --ipv4=false --ipv6 --internal "
        "--attachable --ingress --scope swarm --config-only --config-from base --label k "
        "--label a=b -o parent=eth0 -o flag --ipam-driver dhcp --ipam-opt x=y n"
    )
    assert served(line) == (0, f"{NETWORK_ID}\n", "WARNING: mind\n")
    first = {
        "Subnet": "10.0.0.0/24",
        "IPRange": "10.0.0.128/25",
        "Gateway": "10.0.0.1",
        "AuxiliaryAddresses": {"a": "10.0.0.2"},
    }
    config = [first, {"Subnet": "fd00::/64"}]
    assert server.requests[0].body == plain_request(
        Driver="macvlan",
        Scope="swarm",
        EnableIPv4=False,
        EnableIPv6=True,
        IPAM={"Driver": "dhcp", "Options": {"x": "y"}, "Config": config},
        Internal=True,
        Attachable=True,
        Ingress=True,
        ConfigOnly=True,
        ConfigFrom={"Network": "base"},
        Options={"parent": "eth0", "flag": ""},
        Labels={"k": "", "a": "b"},
    )


@pytest.mark.parametrize(
    ("line", "status", "problem"),
    [
        ("net create", 1, "cnm: 'cnm net create' requires 1 argument"),
        ("net create --label =x n", 125,
         'invalid argument "=x" for "--label" flag: invalid label \'=x\': empty name'),
        ("net create --gateway 1.2.3.4 n", 1,
         "every ip-range or gateway must have a corresponding subnet"),
        ("net rm", 1, "cnm: 'cnm net rm' requires at least 1 argument"),
        ("net rm ''", 1, "invalid network name or ID: value is empty"),
        ("net ls x", 1, "cnm: 'cnm net ls' accepts no arguments"),
        ("net connect a", 1, "cnm: 'cnm net connect' requires 2 arguments"),
        ("net connect a ''", 1, "invalid container name or ID: value is empty"),
        ("net connect --driver-opt x a b", 1, "invalid key/value pair format in driver options"),
        ("net connect --link a:b:c a b", 125,
         'invalid argument "a:b:c" for "--link" flag: bad format for links: a:b:c'),
        ("net connect --link '' a b", 125,
         'invalid argument "" for "--link" flag: empty string specified for links'),
    ],
)  # fmt: skip
def test_refused_before_the_daemon_is_asked(
    server: Answering, served: CommandLine, line: str, status: int, problem: str
) -> None:
    outcome = served(line)
    assert (outcome.status, outcome.out) == (status, "")
    assert outcome.err.splitlines()[0] == problem
    assert server.requests == []


def test_connect(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/networks/b/connect")
    line = (
        "net connect --ip 1.2.3.4 --ip6 fd00::1 --alias a --alias b,c --link x:y --link z "
        "--link-local-ip 169.254.1.1 --driver-opt a=b --gw-priority -5 b c1"
    )
    assert served(line) == (0, "", "")
    assert served("net connect b c1").status == 0
    addresses = {
        "IPv4Address": "1.2.3.4",
        "IPv6Address": "fd00::1",
        "LinkLocalIPs": ["169.254.1.1"],
    }
    assert [request.body["EndpointConfig"] for request in server.requests] == [
        {
            "IPAMConfig": addresses,
            "Links": ["x:y", "z"],
            "Aliases": ["a", "b", "c"],
            "DriverOpts": {"a": "b"},
            "GwPriority": -5,
        },
        {"IPAMConfig": {}, "Links": None, "Aliases": [], "DriverOpts": {}, "GwPriority": 0},
    ]
    assert server.requests[0].body["Container"] == "c1"


def test_disconnect(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/networks/b/disconnect")
    assert served("net disconnect b c1") == (0, "", "")
    assert served("net disconnect -f b c1") == (0, "", "")
    assert [request.body for request in server.requests] == [
        {"Container": "c1", "Force": False},
        {"Container": "c1", "Force": True},
    ]


QUESTION = (
    "WARNING! This will remove all custom networks not used by at least one container.\n"
    "Are you sure you want to continue? [y/N] "
)
DELETED = "Deleted Networks:\nx\ny\n\n"


@pytest.mark.parametrize(
    ("typed", "printed", "asked"),
    [("y\n", QUESTION + DELETED, 1), ("Y\n", QUESTION + DELETED, 1), ("n\n", QUESTION, 0),
     ("", QUESTION, 0), ("yes\n", QUESTION, 0)],
)  # fmt: skip
def test_prune_asks(
    server: Answering,
    served: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    printed: str,
    asked: int,
) -> None:
    server.answer("POST", "/networks/prune", {"NetworksDeleted": ["x", "y"]})
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert served("net prune") == (0, printed, "")
    assert len(server.requests) == asked


@pytest.mark.parametrize("names", [None, []])
def test_prune_nothing(server: Answering, served: CommandLine, names: object) -> None:
    server.answer("POST", "/networks/prune", {"NetworksDeleted": names})
    assert served("net prune -f --filter until=1h") == (0, "", "")
    assert server.requests[0].target.endswith("?filters=%7B%22until%22%3A%7B%221h%22%3Atrue%7D%7D")


@pytest.mark.parametrize("line", ["net ls", "net inspect a b", "net rm a b", "net prune -f"])
def test_without_daemon(cnm: CommandLine, line: str) -> None:
    status, out, err = cnm(line)
    assert (status, out) == (1, "")
    assert err == (
        "Cannot connect to the cnm daemon at unix:///nonexistent/cnm.sock. "
        "Is the cnm daemon running?\nstart it with: cnm daemon   (or: systemctl start cnm)\n"
    )
