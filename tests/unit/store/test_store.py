"""The database: records whole again, transactions, durability settings, refusals, migrations."""

from __future__ import annotations

import ipaddress
import sqlite3
import time
from pathlib import Path

import pytest

from cnm.containerapi import ContainerRecord, RestartMode
from cnm.errors import StoreError
from cnm.guestapi import GuestEndpoint, GuestNetwork, GuestPool
from cnm.store import MIGRATIONS, SqliteStore
from cnm.types import (
    Endpoint,
    EndpointID,
    EndpointInterface,
    EndpointRequest,
    IpamConfig,
    IpamPool,
    JoinInfo,
    NamespaceIdentity,
    Network,
    NetworkID,
    Phase,
    PoolID,
    SandboxID,
    SandboxKey,
    SandboxRecord,
    SandboxStatus,
    StaticRoute,
)

RELEASED = Path(__file__).parent / "released"  # one dump of each schema that was ever released

NETWORK = Network(
    NetworkID("a" * 64),
    "blue",
    "bridge",
    Phase.ACTIVE,
    time.time_ns(),
    enable_ipv6=True,
    options={"k": "v"},
    ipam_options={},
    ipam_config=(
        IpamConfig(
            ipaddress.ip_network("10.0.0.0/24"),
            aux_addresses={"r": ipaddress.ip_address("10.0.0.9")},
        ),
    ),
    ipv4=(
        IpamPool(
            PoolID("p"),
            "LocalDefault",
            ipaddress.ip_network("10.0.0.0/24"),
            ipaddress.ip_interface("10.0.0.1/24"),
        ),
    ),
    ipv6=(IpamPool(PoolID("q"), "LocalDefault", ipaddress.ip_network("fd00::/64")),),
)
SANDBOX = SandboxRecord(
    SandboxID("b" * 64),
    "c1",
    SandboxKey("/run/netns/c1"),
    NamespaceIdentity(2**63),
    SandboxStatus.RUNNING,
    1,
    labels={"x": ""},
)
ENDPOINT = Endpoint(
    EndpointID("c" * 64),
    NETWORK.id,
    SANDBOX.id,
    Phase.ACTIVE,
    2,
    EndpointRequest(ipaddress.IPv4Address("10.0.0.5"), aliases=("a", "b"), gw_priority=-1),
    EndpointInterface(
        ipaddress.IPv4Interface("10.0.0.5/24"),
        ipaddress.IPv6Interface("fd00::5/64"),
        "02:42:0a:00:00:05",
    ),
    "eth0",
    JoinInfo(
        "eth0",
        placed=True,
        gateway=ipaddress.IPv4Address("10.0.0.1"),
        static_routes=(StaticRoute(ipaddress.ip_network("10.9.0.0/16")),),
    ),
)


def test_records_come_back_equal(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cnm.db")
    store.write(put=[NETWORK, SANDBOX, ENDPOINT])
    identity = store.daemon_id
    store.close()
    store = SqliteStore(tmp_path / "cnm.db")
    assert store.all(Network) == [NETWORK]
    assert store.all(SandboxRecord) == [SANDBOX]
    assert store.all(Endpoint) == [ENDPOINT]
    assert store.daemon_id == identity
    assert len(identity) == 64
    store.write(remove=[ENDPOINT])
    assert store.all(Endpoint) == []
    store.close()


def test_a_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cnm.db")

    def half_way() -> None:
        with store.transaction():
            store.write(put=[NETWORK])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert store.all(Network) == []
    store.close()


def test_full_disk_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cnm.db")
    store.write(put=[NETWORK])
    pages = store.query("PRAGMA page_count")[0][0]
    store.execute(f"PRAGMA max_page_count = {pages}")
    pool, many = PoolID("p" * 200), [ipaddress.ip_address(number) for number in range(10_000)]
    with pytest.raises(StoreError, match="full: free some space and try again"):
        store.leases.add_leases(pool, many)
    assert store.all(Network) == [NETWORK]
    store.execute("PRAGMA max_page_count = 100000")
    store.write(put=[SANDBOX])
    store.close()


@pytest.mark.parametrize("damage", ["text", "middle", "foreign"])
def test_a_damaged_database_is_refused_untouched(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cnm.db"
    if damage == "text":
        path.write_text("this is no database" * 100)
    elif damage == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE someone (elses)")
        db.close()
    else:
        store = SqliteStore(path)
        for number in range(500):
            store.leases.add_leases(PoolID("p" * 50), [ipaddress.ip_address(number)])
        store.close()
        content = bytearray(path.read_bytes())
        for offset in range(4096, len(content)):
            content[offset] ^= 0x5A
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is damaged .* move it away, or put back"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "cnm.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=f"has schema 99.* knows up to {len(MIGRATIONS)}: use a newer cnm"
    ):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_migration_backs_up_first_and_runs_once(tmp_path: Path) -> None:
    path = tmp_path / "cnm.db"
    store = SqliteStore(path)
    store.write(put=[NETWORK])
    store.close()
    steps = (*MIGRATIONS, "CREATE TABLE later (x); INSERT INTO later VALUES (1);")
    for _ in range(2):
        store = SqliteStore(path, steps)
        assert store.all(Network) == [NETWORK]
        assert store.query("SELECT x FROM later") == [(1,)]
        store.close()
    backup = SqliteStore(tmp_path / f"cnm.db.v{len(MIGRATIONS)}.bak")
    assert backup.all(Network) == [NETWORK]
    backup.close()


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "cnm.db"
    store = SqliteStore(path)
    store.write(put=[NETWORK])
    store.close()
    with pytest.raises(StoreError, match="cannot use database"):
        SqliteStore(path, (*MIGRATIONS, "CREATE TABLE later (x); INSERT INTO nowhere VALUES (1);"))
    store = SqliteStore(path)
    assert store.all(Network) == [NETWORK]
    store.close()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_every_released_schema_opens(tmp_path: Path, version: int) -> None:
    path = tmp_path / "cnm.db"
    db = sqlite3.connect(path)
    db.executescript((RELEASED / f"v{version}.sql").read_text())
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    store = SqliteStore(path)
    assert [network.name for network in store.all(Network)] == ["blue"]
    assert [sandbox.name for sandbox in store.all(SandboxRecord)] == ["c1"]
    assert [endpoint.interface_name for endpoint in store.all(Endpoint)] == ["eth0"]
    (container,) = store.all(ContainerRecord)
    assert container.definition.endpoints["blue"].ipv4 == ipaddress.IPv4Address("10.0.0.5")
    assert container.definition.names.links == (("db", "d"),)
    assert container.definition.restart.mode is RestartMode.ALWAYS
    assert [str(lease) for lease in store.leases.leases(PoolID("p"))] == ["10.0.0.1", "10.0.0.5"]
    assert store.ledger.remembered() == {"net/ipv4/ip_forward": ("0", "1")}
    assert [guest.driver for guest in store.all(GuestNetwork)] == ["bridge"] * (version >= 2)
    assert [guest.ports[0].host_port for guest in store.all(GuestEndpoint)] == [8080] * (
        version >= 2
    )
    assert [guest.used for guest in store.all(GuestPool)] == [True] * (version >= 2)
    store.close()


def test_ledger_keeps_the_first_old_value(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cnm.db")
    store.ledger.remember("net/ipv4/ip_forward", "0", "1")
    store.ledger.remember("net/ipv4/ip_forward", "1", "2")
    assert store.ledger.remembered() == {"net/ipv4/ip_forward": ("0", "2")}
    store.ledger.forget("net/ipv4/ip_forward")
    assert store.ledger.remembered() == {}
    store.close()


def test_notes_are_kept_by_owner_and_outlive_the_daemon(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cnm.db")
    store.notes("dhcp").put("a", "1")
    store.notes("dhcp").put("a", "2")
    store.notes("dhcp").put("b", "3")
    store.notes("other").put("a", "4")
    store.notes("dhcp").delete("b")
    store.notes("dhcp").delete("never there")
    store.close()
    store = SqliteStore(tmp_path / "cnm.db")
    assert store.notes("dhcp").all() == {"a": "2"}
    assert store.notes("other").all() == {"a": "4"}
    store.close()
