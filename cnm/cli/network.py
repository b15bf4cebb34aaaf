"""``net create|ls|inspect|rm|prune``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.display import go_time, labels, short_id
from cnm.cli.errors import CommandError, ConnectionFailed, DaemonError
from cnm.cli.format import FORMAT_HELP, INSPECT_FORMAT_HELP, Listing, natural
from cnm.cli.values import Row

_NOT_FOUND = 404
_WARNING = (
    "WARNING! This will remove all custom networks not used by at least one container.\n"
    "Are you sure you want to continue? [y/N] "
)

NETWORKS = Listing(
    "*network.networkContext",
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
    ("ID", "Name", "Driver", "Scope"),
    raw="network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
)

_WITH_USAGE = "/v1.52"  # the first API version whose networks tell the use of their pools


def label_problem(value: str) -> str:
    """What is wrong with ``--label value``."""
    return f"invalid label '{value}': empty name" if value.startswith("=") else ""


def _row(network: Mapping[str, object], whole_id: bool) -> Row:
    values = network.get("Labels")
    own_labels: Mapping[str, str] = values if isinstance(values, dict) else {}

    def flag(key: str) -> str:
        return "true" if network.get(key) else "false"

    def text(key: str) -> str:
        return str(network.get(key) or "")

    fields = {
        "ID": short_id(text("Id"), whole_id),
        "Name": text("Name"),
        "Driver": text("Driver"),
        "Scope": text("Scope"),
        "IPv4": flag("EnableIPv4"),
        "IPv6": flag("EnableIPv6"),
        "Internal": flag("Internal"),
        "Labels": labels(own_labels),
        "CreatedAt": go_time(text("Created")),
    }
    return NETWORKS.row(fields, {"Label": lambda name: own_labels.get(name, "")})


def ls(call: Call) -> int:
    """Lists networks, by name."""
    found = Client(call.host).get("/networks", filters=call.filters())
    networks = found if isinstance(found, list) else []
    networks.sort(key=lambda network: natural(str(network.get("Name"))))
    rows = [_row(network, call.switch("no-trunc")) for network in networks]
    NETWORKS.show(rows, call.string("format"), call.switch("quiet"))
    return 0


def inspect(call: Call) -> int:
    """Prints whole documents."""
    from cnm.cli.inspection import Found, inspect
    from cnm.cli.shape import NETWORK

    client = Client(call.host)
    verbose = "true" if call.switch("verbose") else None

    def fetch(name: str) -> Found:
        path = f"{_WITH_USAGE}/networks/{segment(name, 'network')}"
        return client.get(path, verbose=verbose), NETWORK

    return inspect(call.arguments, fetch, call.string("format"))


def create(call: Call) -> int:
    """Creates a network and prints its id."""
    answer = Client(call.host).post("/networks/create", creation(call))
    if isinstance(answer, dict):
        if answer.get("Warning"):
            sys.stderr.write(f"WARNING: {answer['Warning']}\n")
        sys.stdout.write(f"{answer.get('Id', '')}\n")
    return 0


def creation(call: Call) -> dict[str, object]:
    """The body of the request: what ``docker network create`` sends for the same flags.

    :raises CommandError: when ranges and gateways do not fit to the subnets.
    """
    config: list[dict[str, object]] = []
    if any(call.given(flag) for flag in ("subnet", "ip-range", "gateway", "aux-address")):
        from cnm.cli.ipamconfig import pools

        config = pools(
            call.strings("subnet"),
            call.strings("ip-range"),
            call.strings("gateway"),
            call.mapping("aux-address"),
        )
    source = call.string("config-from")
    body: dict[str, object] = {
        "Name": call.arguments[0],
        "Driver": call.string("driver", "bridge"),
        "Scope": call.string("scope"),
        "IPAM": {
            "Driver": call.string("ipam-driver", "default"),
            "Options": call.mapping("ipam-opt"),
            "Config": config,
        },
        "Internal": call.switch("internal"),
        "Attachable": call.switch("attachable"),
        "Ingress": call.switch("ingress"),
        "ConfigOnly": call.switch("config-only"),
        "ConfigFrom": {"Network": source} if source else None,
        "Options": call.mapping("opt"),
        "Labels": call.mapping("label"),
    }
    for flag, key in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if call.given(flag):
            body[key] = call.switch(flag)
    return body


def rm(call: Call) -> int:
    """Removes networks, each tried; prints the names of the removed."""
    client = Client(call.host)
    failed = False
    for name in call.arguments:
        try:
            client.delete(f"/networks/{segment(name, 'network')}")
            sys.stdout.write(f"{name}\n")
        except ConnectionFailed:
            raise
        except CommandError as error:
            missing = isinstance(error, DaemonError) and error.code == _NOT_FOUND
            if missing and call.switch("force"):
                continue
            failed = True
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
    return 1 if failed else 0


def prune(call: Call) -> int:
    """Removes what nobody uses, after asking."""
    if not call.switch("force"):
        sys.stdout.write(_WARNING)
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() != "y":
            return 0
    answer = Client(call.host).post("/networks/prune", filters=call.filters())
    names = answer.get("NetworksDeleted") if isinstance(answer, dict) else None
    if names:
        sys.stdout.write("Deleted Networks:\n" + "".join(f"{name}\n" for name in names) + "\n")
    return 0


LS = Command(
    ls,
    "List networks",
    usage="[OPTIONS]",
    flags=(
        Flag("filter", "filter", 'Show only what matches, as "driver=bridge"', short="f"),
        Flag("format", "string", FORMAT_HELP),
        Flag("no-trunc", "bool", "Do not shorten ids"),
        Flag("quiet", "bool", "Print ids only", short="q"),
    ),
    examples=(
        "ls",
        "ls --filter driver=bridge -q",
        "ls --format '{{.Name}}: {{.Driver}}'",
        "ls --format json",
    ),
)
INSPECT = Command(
    inspect,
    "Display detailed information on one or more networks",
    usage="[OPTIONS] NETWORK [NETWORK...]",
    flags=(
        Flag("format", "string", INSPECT_FORMAT_HELP, short="f"),
        Flag("verbose", "bool", "Show peers and tasks of all hosts", short="v"),
    ),
    minimum=1,
    maximum=None,
    names=("networks",),
    examples=(
        "inspect bridge",
        "inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' localnet",
    ),
)
CREATE = Command(
    create,
    "Create a network",
    usage="[OPTIONS] NETWORK",
    flags=(
        Flag("attachable", "bool", "Let stand-alone containers attach to it"),
        Flag("aux-address", "map", "Addresses that others use, never given to containers"),
        Flag("config-from", "string", "Network to copy the configuration from"),
        Flag("config-only", "bool", "Create a configuration, no network"),
        Flag("driver", "string", "Driver", short="d", default="bridge", names="drivers"),
        Flag("gateway", "strings", "Gateway of a subnet"),
        Flag("ingress", "bool", "Create the cluster's ingress network"),
        Flag("internal", "bool", "No way from or to the outside"),
        Flag("ip-range", "strings", "Part of a subnet to take containers' addresses from"),
        Flag("ipam-driver", "string", "Driver that hands out addresses", default="default"),
        Flag("ipam-opt", "map", "Option of that driver"),
        Flag("ipv4", "bool", "Give out IPv4 addresses", default="true"),
        Flag("ipv6", "bool", "Give out IPv6 addresses"),
        Flag("label", "list", "Label, key or key=value", check=label_problem),
        Flag("opt", "map", "Option of the network's driver", short="o"),
        Flag("scope", "string", "Scope of the network: local or swarm"),
        Flag("subnet", "strings", "Subnet, as 10.1.0.0/24; the next free one if not given"),
    ),
    minimum=1,
    maximum=1,
    examples=(
        "create localnet",
        "create --subnet 10.1.0.0/24 --gateway 10.1.0.254 --ip-range 10.1.0.0/25 office",
        "create --ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64 dual",
        "create --internal -o com.docker.network.driver.mtu=1400 closed",
    ),
)
RM = Command(
    rm,
    "Remove one or more networks",
    usage="NETWORK [NETWORK...]",
    flags=(Flag("force", "bool", "No error if a network does not exist", short="f"),),
    minimum=1,
    maximum=None,
    names=("networks",),
    examples=("rm localnet", "rm -f localnet office"),
)
PRUNE = Command(
    prune,
    "Remove all unused networks",
    usage="[OPTIONS]",
    flags=(
        Flag("filter", "filter", 'Remove only what matches, as "until=24h" or "label=k=v"'),
        Flag("force", "bool", "Do not ask", short="f"),
    ),
    examples=("prune", "prune -f --filter until=24h"),
)
