"""SCTP ports, on a kernel that has SCTP: held, reached, refused, given back."""

from __future__ import annotations

import pytest
from kernel.drivers.exchange import serving
from kernel.drivers.world import HOST, PEER, World, address

from cnm.errors import PortTaken
from cnm.types import PortBinding

pytestmark = [pytest.mark.kernel, pytest.mark.needs("sctp")]

WANTED = [PortBinding("sctp", 80, None, 5005)]


def test_published(world: World) -> None:
    """One world for both families: making one takes long under emulation."""
    spec = world.network(1)
    one, other = world.attach(spec, 2), world.attach(world.network(2), 7)
    driver = world.driver
    driver.check_external_connectivity(spec.id, WANTED)
    driver.program_external_connectivity(spec.id, one.endpoint_id, WANTED)
    with serving(one.sandbox, "sctp", 80) as server:
        for version in (4, 6):
            seen = server.seen_from(world.peer, HOST[version], 5005, expected=True)
            assert seen == PEER[version]
            seen = server.seen_from(other.sandbox, HOST[version], 5005, expected=True)
            assert seen == address(other, version)
            seen = server.seen_from(world.host, HOST[version], 5005, expected=True)
            assert seen == HOST[version]
        with pytest.raises(PortTaken, match="Bind for 0.0.0.0:5005 failed"):
            driver.program_external_connectivity(other.network_id, other.endpoint_id, WANTED)
        driver.revoke_external_connectivity(spec.id, one.endpoint_id)
        for version in (4, 6):
            assert server.seen_from(world.peer, HOST[version], 5005, expected=False) is None
    driver.program_external_connectivity(other.network_id, other.endpoint_id, WANTED)
