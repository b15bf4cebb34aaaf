"""Documents as the daemon sends them."""

from __future__ import annotations

from typing import Any

NETWORK_ID = "ab" * 32
CONTAINER_ID = "c" * 64


def network(**changes: Any) -> dict[str, Any]:
    """A network with one container on it."""
    return {
        "Name": "b",
        "Id": NETWORK_ID,
        "Created": "2024-01-01T00:00:00.123456789Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}],
        },
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            CONTAINER_ID: {
                "Name": "c1",
                "EndpointID": "e1",
                "MacAddress": "02:42",
                "IPv4Address": "1.2.3.4/16",
                "IPv6Address": "",
            }
        },
        "Options": {"z": "1", "a": "<&>"},
        "Labels": {"l1": "v1", "l0": "v0"},
        **changes,
    }


def container(**changes: Any) -> dict[str, Any]:
    """An adopted namespace, as the list shows it."""
    return {
        "Id": CONTAINER_ID,
        "Names": ["/c1"],
        "Image": "/run/netns/c1",
        "Command": "",
        "Created": 1700000000,
        "State": "running",
        "Status": "Up 3 hours",
        "Ports": [],
        "Labels": {"b": "1", "a": "2"},
        "NetworkSettings": {"Networks": {"n2": {}, "n1": {}}},
        **changes,
    }
