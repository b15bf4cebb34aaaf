"""The macvlan driver's options: strings in, frozen values out. Keys are Docker's, one is ours."""

from __future__ import annotations

from collections.abc import Mapping

from cnm import labels
from cnm.drivers.parentlink import options
from cnm.drivers.parentlink.options import NetworkOptions
from cnm.errors import InvalidParameter
from cnm.runtime.kernel.netlink import Upper
from cnm.types import NetworkSpec

NAME = "macvlan"
BRIDGE = "bridge"
PASSTHRU = "passthru"
# linux/if_link.h: MACVLAN_MODE_*
_MODES = {"private": 1, "vepa": 2, BRIDGE: 4, PASSTHRU: 8}


def parse_network(network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
    """A network's options over the daemon's defaults.

    :raises InvalidParameter: naming the key.
    """
    own = {labels.MACVLAN_MODE: _mode, labels.HOST_ACCESS: labels.parse_bool}
    found = options.read(network, defaults, NAME, own)
    mode = found.get(labels.MACVLAN_MODE, BRIDGE)
    host_access = found.get(labels.HOST_ACCESS, False)
    if host_access and mode != BRIDGE:
        raise InvalidParameter(
            f"{labels.HOST_ACCESS} needs {labels.MACVLAN_MODE}={BRIDGE}: in mode {mode} the host "
            "cannot be a neighbour of its containers"
        )
    return NetworkOptions(
        Upper(NAME, _MODES[mode]),
        mode,
        parent=found.get(labels.PARENT, ""),
        mtu=found.get(labels.MTU),
        host_access=host_access,
        own_macs=mode != PASSTHRU,
    )


def _mode(key: str, text: str) -> str:
    mode = text or BRIDGE
    if mode not in _MODES:
        raise InvalidParameter(
            f"requested macvlan mode '{text}' is not valid, 'bridge' mode is the macvlan driver "
            "default"
        )
    return mode
