"""Names of interfaces inside a sandbox: the asked one, or the lowest number that is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cnm import labels
from cnm.core.state import State
from cnm.errors import Conflict
from cnm.types import Endpoint, JoinInfo, Network, SandboxRecord

DEFAULT_PREFIX = "eth"


def choose(
    state: State,
    network: Network,
    record: SandboxRecord,
    endpoint: Endpoint,
    present: Callable[[str], bool],
) -> str:
    """The name that a new endpoint's interface gets. :raises Conflict: the asked one is taken.

    ``present``: whether the sandbox has a link of that name.
    """
    taken = _taken(state, record, endpoint, present)
    wanted = endpoint.request.driver_opts.get(labels.ENDPOINT_IFNAME)
    if wanted is not None:
        if taken(wanted):
            raise Conflict(f'interface name "{wanted}" is taken in container {record.name}')
        return wanted
    return _lowest_free(network.options.get(labels.CONTAINER_IFACE_PREFIX, DEFAULT_PREFIX), taken)


def of_moved(
    state: State,
    join: JoinInfo,
    record: SandboxRecord,
    endpoint: Endpoint,
    present: Callable[[str], bool],
) -> JoinInfo:
    """For a link that is to be moved, by its driver's prefix; without a link no way leads out."""
    if not join.source_name:
        return replace(join, gateway=None, gateway_ipv6=None, static_routes=())
    if not join.name_prefix or labels.ENDPOINT_IFNAME in endpoint.request.driver_opts:
        return join
    taken = _taken(state, record, endpoint, present)
    return replace(join, interface_name=_lowest_free(join.name_prefix, taken))


def _taken(
    state: State, record: SandboxRecord, endpoint: Endpoint, present: Callable[[str], bool]
) -> Callable[[str], bool]:
    promised = {
        item.interface_name
        for item in state.endpoints_of_sandbox(record.id)
        if item.id != endpoint.id
    }
    return lambda name: name in promised or present(name)


def _lowest_free(prefix: str, taken: Callable[[str], bool]) -> str:
    number = 0
    while taken(f"{prefix}{number}"):
        number += 1
    return f"{prefix}{number}"
