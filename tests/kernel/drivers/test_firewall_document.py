"""What docs/firewall.md shows is so: the rules, and a policy that says no.

``UPDATE_GOLDEN=1`` rewrites the listing: read the diff.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from kernel.drivers.exchange import Server
from kernel.drivers.lab import Host, PlaceFactory, attach, network
from kernel.drivers.world import BOTH, HOST, PEER, World

from cnm.types import PortBinding

DOCUMENT = Path(__file__).parents[3] / "docs" / "firewall.md"
TESTS = Path(__file__).parents[2]
_ADVISORIES = 15  # rows of the table, and more may come
_ROW = re.compile(
    r"^\| ((?:CVE|GHSA|moby)[^|]*) \|[^|]*\| `([^`]+)`, `(test_[^`]+)` \|$", re.MULTILINE
)
_NAME = re.compile(r"CVE-[\d-]+|GHSA-[\w-]+|moby#\d+")
IDENTITY = "0123456789ab" + "c" * 52


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n```nft\n)(.*?)(?=```\n)", re.DOTALL)


def shown(name: str) -> str:
    found = block(name).search(DOCUMENT.read_text())
    assert found is not None
    return found[0]


def test_the_rules(host: Host, make_place: PlaceFactory) -> None:
    driver = host.bridge()
    spec = network("10.77.0.1/24", "fd77::1/64", network_id=IDENTITY)
    driver.create_network(spec)
    one = attach(driver, spec, make_place(), "10.77.0.2/24", "fd77::2/64")
    driver.program_external_connectivity(
        spec.id,
        one.endpoint_id,
        [
            PortBinding("tcp", 80, None, 8080),
            PortBinding("tcp", 5432, ip_address("127.0.0.1"), 5432),
            *(PortBinding("udp", port, None, port) for port in range(6000, 6021)),
        ],
    )
    rules = host.sh("nft -s list ruleset")
    if os.environ.get("UPDATE_GOLDEN"):
        text = block("rules").sub(lambda _: rules, DOCUMENT.read_text())
        DOCUMENT.write_text(text)
    assert shown("rules") == rules


def test_each_advisory_has_its_test() -> None:
    """As the table says: a test of that name, in that file, which names the advisory."""
    rows = _ROW.findall(DOCUMENT.read_text())
    assert len(rows) >= _ADVISORIES
    for names, file, test in rows:
        text = (TESTS / file).read_text()
        found = re.search(rf"^def {test}\(.*?(?=^def |^@|\Z)", text, re.DOTALL | re.MULTILINE)
        assert found is not None, (file, test)
        for name in _NAME.findall(names):
            assert name in found[0], f"{name} in {file}, {test}"


@BOTH
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_policy(version: int, protocol: str, world: World, tmp_path: Path) -> None:
    """It sees the port that the client wrote, and holds whoever came first.

    moby#22054, moby#4737: a "deny" of ufw's does not hold; this does.
    """
    spec = world.network(1)
    one, other = world.attach(spec, 2), world.attach(world.network(2), 2)
    world.driver.program_external_connectivity(
        spec.id,
        one.endpoint_id,
        [PortBinding(protocol, 443, None, 5005), PortBinding(protocol, 443, None, 443)],
    )
    policy = tmp_path / "policy.nft"
    policy.write_text(
        shown("policy").replace("eth0", "up0").replace("tcp . 443", f"{protocol} . 443")
    )
    server = Server(one.sandbox, protocol, 443)
    try:

        def reaches(port: int, *, expected: bool = True) -> str | None:
            return server.seen_from(world.peer, HOST[version], port, expected=expected)

        assert reaches(5005) == PEER[version]
        world.host.sh(f"nft -f {policy}")
        assert reaches(5005, expected=False) is None
        assert reaches(443) == PEER[version]
        assert server.seen_from(other.sandbox, HOST[version], 5005, expected=True)
        assert server.seen_from(world.host, HOST[version], 5005, expected=True)
        assert one.sandbox.pings(PEER[version])
        world.driver.delete_network(other.network_id)
        assert reaches(5005, expected=False) is None
        world.host.sh("nft delete table inet admin")
        assert reaches(5005) == PEER[version]
    finally:
        server.close()
