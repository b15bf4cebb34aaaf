"""``net connect|disconnect``."""

from __future__ import annotations

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError


def link_problem(value: str) -> str:
    """What is wrong with ``--link value``."""
    if not value:
        return "empty string specified for links"
    return f"bad format for links: {value}" if value.count(":") > 1 else ""


def connect(call: Call) -> int:
    """Connects a container."""
    network, container = call.arguments
    body = {"Container": container, "EndpointConfig": endpoint_config(call)}
    _post(call, network, container, "connect", body)
    return 0


def endpoint_config(call: Call) -> dict[str, object]:
    """What the request says of the endpoint.

    :raises CommandError: for a driver option without a value.
    """
    addresses: dict[str, object] = {}
    if call.string("ip"):
        addresses["IPv4Address"] = call.string("ip")
    if call.string("ip6"):
        addresses["IPv6Address"] = call.string("ip6")
    if call.given("link-local-ip"):
        addresses["LinkLocalIPs"] = call.strings("link-local-ip")
    return {
        "IPAMConfig": addresses,
        "Links": call.strings("link") or None,
        "Aliases": call.strings("alias"),
        "DriverOpts": _driver_options(call),
        "GwPriority": call.integer("gw-priority"),
    }


def _driver_options(call: Call) -> dict[str, str]:
    for option in call.strings("driver-opt"):
        if not option.partition("=")[1]:
            raise CommandError("invalid key/value pair format in driver options")
    return call.mapping("driver-opt")


def disconnect(call: Call) -> int:
    """Disconnects a container."""
    network, container = call.arguments
    body = {"Container": container, "Force": call.switch("force")}
    _post(call, network, container, "disconnect", body)
    return 0


def _post(call: Call, network: str, container: str, verb: str, body: object) -> None:
    path = f"/networks/{segment(network, 'network')}/{verb}"
    segment(container, "container")  # refused here when empty, though it goes into the body
    Client(call.host).post(path, body)


CONNECT = Command(
    connect,
    "Connect a container to a network",
    usage="[OPTIONS] NETWORK CONTAINER",
    flags=(
        Flag("alias", "strings", "Further name of the container on this network"),
        Flag("driver-opt", "strings", "Option of the network's driver, key=value"),
        Flag("gw-priority", "int", "The network of the highest priority gives the default gateway"),
        Flag("ip", "string", "IPv4 address, as 172.30.100.104"),
        Flag("ip6", "string", "IPv6 address, as 2001:db8::33"),
        Flag("link", "list", "Link to another container, NAME[:ALIAS]", check=link_problem),
        Flag("link-local-ip", "strings", "Link-local address of the container"),
    ),
    minimum=2,
    maximum=2,
    names=("networks", "containers"),
    examples=(
        "connect localnet c1",
        "connect --ip 10.1.0.7 --alias db --gw-priority 10 office c1",
        "connect --driver-opt com.docker.network.endpoint.ifname=lan0 office c1",
    ),
)
DISCONNECT = Command(
    disconnect,
    "Disconnect a container from a network",
    usage="[OPTIONS] NETWORK CONTAINER",
    flags=(Flag("force", "bool", "Disconnect whatever the container's state", short="f"),),
    minimum=2,
    maximum=2,
    names=("networks", "containers"),
    examples=("disconnect localnet c1",),
)
