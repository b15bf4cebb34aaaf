"""What a runtime says: the environment and the network's configuration, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnm.cni.errors import (
    CANNOT_DECODE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    CniError,
)

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
ASSUMED = "0.1.0"  # of a configuration that names no version, by the specification
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_IFNAME_MAX = 15  # bytes; IFNAMSIZ with its zero is 16
LONGEST_INPUT = 4 << 20  # bytes; a configuration is some hundred


@dataclass(frozen=True, slots=True)
class Invocation:
    """One step asked for. What a verb has no use for is empty."""

    command: str
    version: str
    network: str
    conf: Mapping[str, Any]
    container: str = ""
    netns: str = ""
    interface: str = ""
    arguments: Mapping[str, str] | None = None

    def object(self, key: str) -> Mapping[str, Any]:
        """A JSON object of the configuration; empty if it is not there.

        :raises CniError: it is something else.
        """
        value = self.conf.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise CniError(INVALID_CONFIG, f"invalid network config: {key} must be an object")
        return value


def read(environment: Mapping[str, str], text: bytes) -> Invocation:
    """:raises CniError: what is missing, malformed or of another version."""
    command = environment.get("CNI_COMMAND", "")
    if command not in _NEEDED:
        raise CniError(INVALID_ENVIRONMENT, f'unknown CNI_COMMAND: "{command}"')
    conf = _configuration(text)
    version = _version(conf, command)
    missing = [name for name in _NEEDED[command] if not environment.get(name)]
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    container, interface = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if _NEEDED[command]:
        _check_names(container, interface)
    network = conf.get("name")
    if not isinstance(network, str) or not _NAME.fullmatch(network):
        raise CniError(INVALID_CONFIG, f"invalid network name: {json.dumps(network)}")
    return Invocation(
        command,
        version,
        network,
        conf,
        container,
        environment.get("CNI_NETNS", ""),
        interface,
        _arguments(environment.get("CNI_ARGS", "")),
    )


def _configuration(text: bytes) -> Mapping[str, Any]:
    if len(text) > LONGEST_INPUT:
        raise CniError(CANNOT_DECODE, "network config is too large")
    try:
        conf = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CniError(CANNOT_DECODE, f"cannot decode network config: {error}") from None
    if not isinstance(conf, dict):
        raise CniError(CANNOT_DECODE, "cannot decode network config: not a JSON object")
    return conf


def _version(conf: Mapping[str, Any], command: str) -> str:
    version = conf.get("cniVersion") or ASSUMED
    if version not in SUPPORTED:
        details = f'config is "{version}", plugin supports {json.dumps(SUPPORTED)}'
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    since = _SINCE.get(command, SUPPORTED[0])
    if SUPPORTED.index(version) < SUPPORTED.index(since):
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"config version does not allow {command}",
            f"config is {version}, {command} is known since {since}",
        )
    return str(version)


def _check_names(container: str, interface: str) -> None:
    if not _NAME.fullmatch(container):
        raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_CONTAINERID: {ascii(container)}")
    bad = interface in (".", "..") or any(c in "/:" or c.isspace() for c in interface)
    if bad or not interface.isprintable() or len(interface.encode()) > _IFNAME_MAX:
        raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_IFNAME: {ascii(interface)}")


def _arguments(text: str) -> dict[str, str]:
    """``K=V;K2=V2``; runtimes add some that no plugin has asked for."""
    found = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(INVALID_ENVIRONMENT, f'invalid CNI_ARGS: "{pair}" is no KEY=VALUE')
        found[key] = value
    return found
