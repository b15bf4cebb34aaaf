"""The IPAM driver ``null``."""

from ipaddress import IPv6Network, ip_address, ip_interface, ip_network

import pytest

from cnm.errors import InvalidParameter, NotFound
from cnm.ipam.memory import MemoryLeases
from cnm.ipam.null import NullIpam, create
from cnm.ipamapi import IpamContext, IpamDriver, PoolRequest
from cnm.types import PoolID


@pytest.fixture
def null() -> NullIpam:
    return create(IpamContext(MemoryLeases(), IPv6Network("fd00::/48")))


@pytest.mark.parametrize(
    ("v6", "pool_id", "pool"), [(False, "null/0.0.0.0/0", "0.0.0.0/0"), (True, "null/::/0", "::/0")]
)
def test_everybody_gets_the_same_pool(null: NullIpam, v6: bool, pool_id: str, pool: str) -> None:
    assert isinstance(null, IpamDriver)
    assert (null.name, null.default_address_spaces()) == ("null", ("null", "null"))
    for wanted in (None, ip_network(pool)):
        granted = null.request_pool(PoolRequest("null", wanted, v6=v6))
        assert (granted.pool_id, granted.pool) == (pool_id, ip_network(pool))
        assert null.request_address(granted.pool_id) == ip_interface(pool)
        null.release_address(granted.pool_id, ip_address("10.0.0.1"))
        null.release_pool(granted.pool_id)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (PoolRequest("LocalDefault"), "unknown address space: LocalDefault"),
        (PoolRequest("null", ip_network("10.0.0.0/8")), "specific address pool requests"),
        (PoolRequest("null", None, ip_network("10.0.0.0/8")), "specific address subpool requests"),
    ],
    ids=["space", "subnet", "ip-range"],
)
def test_refused(null: NullIpam, request_: PoolRequest, text: str) -> None:
    with pytest.raises(InvalidParameter, match=text):
        null.request_pool(request_)


def test_addresses_refused(null: NullIpam) -> None:
    with pytest.raises(InvalidParameter, match="address 10.0.0.1: the null IPAM driver gives none"):
        null.request_address(PoolID("null/0.0.0.0/0"), ip_address("10.0.0.1"))
    with pytest.raises(NotFound):
        null.request_address(PoolID("LocalDefault/10.0.0.0/8"))
