"""Ports as inspect and ps show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnm.core.state import State
from cnm.types import Phase, PortBinding, SandboxID, address_text

Ports = tuple[PortBinding, ...]


def published(state: State, sandbox_id: SandboxID) -> Ports:
    """All that the endpoints of a sandbox publish."""
    return tuple(
        port
        for endpoint in state.endpoints_of_sandbox(sandbox_id)
        if endpoint.phase is Phase.ACTIVE
        for port in endpoint.ports
    )


def bound(exposed: Iterable[str], ports: Ports) -> dict[str, list[dict[str, str]] | None]:
    """``NetworkSettings.Ports``: what is exposed, and where it is published."""
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(exposed)
    for port in ports:
        binding = {"HostIp": _address(port), "HostPort": str(port.host_port)}
        name = key(port)
        bindings = found.get(name)
        if bindings is None:
            found[name] = bindings = []
        bindings.append(binding)
    return found


def listed(exposed: Iterable[str], ports: Ports) -> list[dict[str, Any]]:
    """``Ports`` in a list of containers."""
    found: list[dict[str, Any]] = [
        {
            "IP": _address(port),
            "PrivatePort": port.container_port,
            "PublicPort": port.host_port,
            "Type": port.protocol,
        }
        for port in ports
    ]
    known = {key(port) for port in ports}
    for item in exposed:
        number, _, protocol = item.partition("/")
        if item not in known:
            found.append({"PrivatePort": int(number), "Type": protocol})
    return found


def asked(wishes: Ports) -> dict[str, list[dict[str, str]]]:
    """``HostConfig.PortBindings``."""
    found: dict[str, list[dict[str, str]]] = {}
    for wish in wishes:
        host_port = str(wish.host_port) if wish.host_port else ""
        if wish.host_port_end > wish.host_port:
            host_port = f"{wish.host_port}-{wish.host_port_end}"
        binding = {"HostIp": _address(wish), "HostPort": host_port}
        found.setdefault(key(wish), []).append(binding)
    return found


def key(port: PortBinding) -> str:
    """``80/tcp``."""
    return f"{port.container_port}/{port.protocol}"


def _address(port: PortBinding) -> str:
    return "" if port.host_ip is None else address_text(port.host_ip)
