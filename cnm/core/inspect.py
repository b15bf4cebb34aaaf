"""The documents that inspect and ls show, in the Engine API's newest shape.

The edge takes away what a client's API version does not know.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from cnm.containerapi import ContainerRecord, ContainerStatus
from cnm.core import portdocs
from cnm.core.addressing import Addressing
from cnm.core.naming import dns_names, is_named
from cnm.core.state import State
from cnm.types import (
    Endpoint,
    EndpointID,
    IpamConfig,
    Network,
    Phase,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)

Document = dict[str, Any]


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class Inspector:
    """Reads records, writes plain dictionaries."""

    def __init__(self, state: State, addressing: Addressing) -> None:
        self._state = state
        self._addressing = addressing

    def network(self, network: Network, *, containers: bool = True) -> Document:
        """Docker's network object. ``containers``: list who is on it, as inspect does."""
        document: Document = {
            "Name": network.name,
            "Id": network.id,
            "Created": timestamp(network.created_ns),
            "Scope": network.scope.value,
            "Driver": network.driver,
            "EnableIPv4": network.enable_ipv4,
            "EnableIPv6": network.enable_ipv6,
            "IPAM": {
                "Driver": network.ipam_driver,
                "Options": _options(network.ipam_options),
                "Config": [_ipam_config(config) for config in network.ipam_config],
            },
            "Internal": network.internal,
            "Attachable": network.attachable,
            "Ingress": network.ingress,
            "ConfigFrom": {"Network": network.config_from},
            "ConfigOnly": network.config_only,
            "Containers": self._containers(network) if containers else {},
            "Options": dict(network.options),
            "Labels": dict(network.labels),
        }
        if containers and not network.config_only:
            document["Status"] = {"IPAM": {"Subnets": self._usage(network)}}
        return document

    def _usage(self, network: Network) -> Document:
        return {
            subnet: {"IPsInUse": usage.in_use, "DynamicIPsAvailable": usage.free}
            for subnet, usage in self._addressing.usage(network).items()
        }

    def _containers(self, network: Network) -> Document:
        found = self._on_predefined(network)
        for endpoint in self._state.endpoints_of_network(network.id):
            sandbox = self._state.sandbox(endpoint.sandbox_id)
            if endpoint.phase is not Phase.ACTIVE or sandbox is None:
                continue
            found[sandbox.id] = {
                "Name": sandbox.name,
                "EndpointID": endpoint.id,
                "MacAddress": endpoint.interface.mac or "",
                "IPv4Address": str(endpoint.interface.address or ""),
                "IPv6Address": str(endpoint.interface.address_ipv6 or ""),
            }
        return found

    def _on_predefined(self, network: Network) -> Document:
        """Those that run on ``host`` or ``none``, which have no endpoints of theirs."""
        return {
            record.id: {
                "Name": record.name,
                "EndpointID": _shown_endpoint(network, record),
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            }
            for record in self._state.containers()
            if network.predefined
            and record.predefined == network.name
            and record.status is ContainerStatus.RUNNING
        }

    # containers

    def container(self, record: SandboxRecord) -> Document:
        """Docker's container object, as far as an adopted namespace has one."""
        running = record.status is SandboxStatus.RUNNING
        return {
            "Id": record.id,
            "Created": timestamp(record.created_ns),
            "Path": "",
            "Args": [],
            "State": {
                "Status": record.status.value,
                "Running": running,
                "Paused": False,
                "Restarting": False,
                "OOMKilled": False,
                "Dead": False,
                "Pid": record.pid,
                "ExitCode": 0,
                "Error": "",
                "StartedAt": timestamp(record.created_ns),
                "FinishedAt": "0001-01-01T00:00:00Z",
            },
            "Image": "",
            "Name": f"/{record.name}",
            "RestartCount": 0,
            "Driver": "",
            "Platform": "linux",
            "Mounts": [],
            "HostConfig": {"NetworkMode": "none", "PortBindings": portdocs.asked(record.publish)},
            "Config": {
                "Hostname": "",
                "Image": record.key,
                "Cmd": None,
                "Labels": dict(record.labels),
            },
            "NetworkSettings": {
                **self.settings(record.id),
                "SandboxID": record.id,
                "SandboxKey": record.key,
                "Ports": portdocs.bound((), portdocs.published(self._state, record.id)),
                "Networks": self.networks(record.id, record.name),
            },
        }

    def container_summary(self, record: SandboxRecord) -> Document:
        """Docker's item of the container list."""
        running = record.status is SandboxStatus.RUNNING
        return {
            "Id": record.id,
            "Names": [f"/{record.name}"],
            "Image": record.key,
            "ImageID": "",
            "Command": "",
            "Created": record.created_ns // 1_000_000_000,
            "Ports": portdocs.listed((), portdocs.published(self._state, record.id)),
            "Labels": dict(record.labels),
            "State": record.status.value,
            "Status": _status(record) if running else "Exited (0)",
            "HostConfig": {"NetworkMode": "none"},
            "NetworkSettings": {"Networks": self.networks(record.id, record.name)},
            "Mounts": [],
        }

    # the networks of one container

    def settings(self, sandbox_id: SandboxID) -> Document:
        """The flat half of ``NetworkSettings``: the default bridge's values only."""
        default = next((self._flat(item) for item in self._on_default(sandbox_id)), {})
        return {
            "Bridge": "",
            "SandboxID": "",
            "SandboxKey": "",
            "Ports": {},
            "HairpinMode": False,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": None,
            "SecondaryIPv6Addresses": None,
            "EndpointID": default.get("EndpointID", ""),
            "Gateway": default.get("Gateway", ""),
            "GlobalIPv6Address": default.get("GlobalIPv6Address", ""),
            "GlobalIPv6PrefixLen": default.get("GlobalIPv6PrefixLen", 0),
            "IPAddress": default.get("IPAddress", ""),
            "IPPrefixLen": default.get("IPPrefixLen", 0),
            "IPv6Gateway": default.get("IPv6Gateway", ""),
            "MacAddress": default.get("MacAddress", ""),
        }

    def _on_default(self, sandbox_id: SandboxID) -> list[Endpoint]:
        """Endpoints on the default bridge: the old flat fields show that one only."""
        found = []
        for endpoint in self._state.endpoints_of_sandbox(sandbox_id):
            network = self._state.network(endpoint.network_id)
            if network is not None and network.predefined and endpoint.phase is Phase.ACTIVE:
                found.append(endpoint)
        return found

    def networks(self, sandbox_id: SandboxID, hostname: str) -> Document:
        """Endpoints by the names of their networks."""
        found: Document = {}
        for endpoint in self._state.endpoints_of_sandbox(sandbox_id):
            network = self._state.network(endpoint.network_id)
            sandbox = self._state.sandbox(sandbox_id)
            if network is None or sandbox is None:
                continue
            if endpoint.phase in (Phase.ACTIVE, Phase.RESERVED):
                names = dns_names(sandbox, endpoint, hostname) if is_named(network) else ()
                found[network.name] = self._endpoint(network, endpoint, names)
        return found

    def predefined(self, record: ContainerRecord) -> Document:
        """What a container in host or none mode shows: the network, and no address on it."""
        network = self._state.network_named(record.predefined or "")
        if network is None:
            return {}
        running = record.status is ContainerStatus.RUNNING
        phase = Phase.ACTIVE if running else Phase.RESERVED
        shown = EndpointID(_shown_endpoint(network, record))
        nothing = Endpoint(shown, network.id, record.id, phase, 0)
        return {network.name: self._endpoint(network, nothing, ())}

    def _endpoint(self, network: Network, endpoint: Endpoint, called: tuple[str, ...]) -> Document:
        request = endpoint.request
        wanted: Document = {}
        if request.ipv4:
            wanted["IPv4Address"] = str(request.ipv4)
        if request.ipv6:
            wanted["IPv6Address"] = str(request.ipv6)
        if request.link_local:
            wanted["LinkLocalIPs"] = [str(address) for address in request.link_local]
        return {
            "IPAMConfig": wanted or None,
            "Links": list(request.links) or None,
            "Aliases": list(request.aliases) or None,
            "DriverOpts": dict(request.driver_opts) or None,
            "GwPriority": request.gw_priority,
            "NetworkID": network.id,
            **self._flat(endpoint),
            "DNSNames": list(called) or None,
        }

    def _flat(self, endpoint: Endpoint) -> Document:
        if endpoint.phase is not Phase.ACTIVE:
            endpoint_id, interface, join = "", None, None
        else:
            endpoint_id, interface, join = endpoint.id, endpoint.interface, endpoint.join
        v4 = interface.address if interface else None
        v6 = interface.address_ipv6 if interface else None
        return {
            "EndpointID": endpoint_id,
            "MacAddress": (interface.mac if interface else endpoint.request.mac) or "",
            "Gateway": str(join.gateway) if join and join.gateway else "",
            "IPAddress": str(v4.ip) if v4 else "",
            "IPPrefixLen": v4.network.prefixlen if v4 else 0,
            "IPv6Gateway": str(join.gateway_ipv6) if join and join.gateway_ipv6 else "",
            "GlobalIPv6Address": str(v6.ip) if v6 else "",
            "GlobalIPv6PrefixLen": v6.network.prefixlen if v6 else 0,
        }


def _options(options: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if options is None else dict(options)


def _ipam_config(config: IpamConfig) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if config.subnet is not None:
        document["Subnet"] = str(config.subnet)
    if config.ip_range is not None:
        document["IPRange"] = str(config.ip_range)
    if config.gateway is not None:
        document["Gateway"] = str(config.gateway)
    if config.aux_addresses:
        document["AuxiliaryAddresses"] = {
            name: str(address) for name, address in config.aux_addresses.items()
        }
    return document


def _status(record: SandboxRecord) -> str:
    """Docker's ``Up 3 seconds``, in its rounding (go-units HumanDuration)."""
    born = datetime.datetime.fromtimestamp(record.created_ns / 1e9, datetime.UTC)
    seconds = int((datetime.datetime.now(datetime.UTC) - born).total_seconds())
    return f"Up {human_duration(max(seconds, 0))}"


def human_duration(seconds: int) -> str:
    """As Docker rounds it: ``About a minute``, ``3 hours``, ``2 weeks``."""
    minutes, hours = seconds // 60, round(seconds / 3600)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def _shown_endpoint(network: Network, record: ContainerRecord) -> str:
    """An id where Docker shows one and there is nothing to have it: another for each run."""
    return hashlib.sha256(f"{network.id} {record.id} {record.started_ns}".encode()).hexdigest()
