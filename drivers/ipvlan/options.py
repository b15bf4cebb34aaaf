"""The ipvlan driver's options: strings in, frozen values out. Keys are Docker's."""

from __future__ import annotations

from collections.abc import Mapping

from cnm import labels
from cnm.drivers.parentlink import options
from cnm.drivers.parentlink.options import NetworkOptions
from cnm.errors import InvalidParameter
from cnm.runtime.kernel.netlink import Upper
from cnm.types import NetworkSpec

NAME = "ipvlan"
L2 = "l2"
BRIDGE = "bridge"
# linux/if_link.h: IPVLAN_MODE_*, IPVLAN_F_*
_MODES = {L2: 0, "l3": 1, "l3s": 2}
_FLAGS = {BRIDGE: 0, "private": 1, "vepa": 2}


def parse_network(network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
    """A network's options over the daemon's defaults.

    :raises InvalidParameter: naming the key.
    """
    own = {labels.IPVLAN_MODE: _mode, labels.IPVLAN_FLAG: _flag}
    found = options.read(network, defaults, NAME, own)
    mode = found.get(labels.IPVLAN_MODE, L2)
    flag = found.get(labels.IPVLAN_FLAG, BRIDGE)
    return NetworkOptions(
        Upper(NAME, _MODES[mode], _FLAGS[flag]),
        mode,
        parent=found.get(labels.PARENT, ""),
        mtu=found.get(labels.MTU),
        routed=mode != L2,
        own_macs=False,
    )


def _mode(key: str, text: str) -> str:
    mode = text or L2
    if mode not in _MODES:
        raise InvalidParameter(
            f"requested ipvlan mode '{text}' is not valid, 'l2' mode is the ipvlan driver default"
        )
    return mode


def _flag(key: str, text: str) -> str:
    flag = text or BRIDGE
    if flag not in _FLAGS:
        raise InvalidParameter(
            f"requested ipvlan flag '{text}' is not valid, 'bridge' is the ipvlan driver default"
        )
    return flag
