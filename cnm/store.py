"""The store: what we intend, and what was settled.

One SQLite database in WAL mode. Records are documents (see :mod:`cnm.codec`) with
the columns that must be unique beside them. A change is one transaction. Network
definitions are committed with ``synchronous=FULL`` (they outlive a power cut),
everything else with ``NORMAL`` (it outlives the daemon; after a power cut the
kernel's state is gone too). Ways that were left: one file a record (no transaction
over network, endpoint and lease), JSON with rename (rewrites a million leases).

The connection serialises its callers with a lock of its own; the core's locks say
who may change what, this one only keeps statements of two threads apart.

Schema: ``PRAGMA user_version``; every step is in ``MIGRATIONS``, and before the
first of them runs the database is copied beside itself (``cnm.db.v1.bak``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from cnm import codec
from cnm.containerapi import ContainerRecord
from cnm.errors import StoreError
from cnm.guestapi import GuestEndpoint, GuestNetwork, GuestPool, GuestRecord
from cnm.ipamapi import StoredPool
from cnm.types import Endpoint, IPAddress, Network, PoolID, Record, SandboxRecord

R = TypeVar(
    "R",
    Network,
    Endpoint,
    SandboxRecord,
    ContainerRecord,
    GuestNetwork,
    GuestEndpoint,
    GuestPool,
)

Stored = Record | ContainerRecord
Kept = Stored | GuestRecord


class Store(Protocol):
    """Records and a few facts about the installation. Leases and sysctls: see the properties."""

    def all(self, kind: type[R]) -> Sequence[R]:
        """Every record of one kind, oldest first."""

    def write(
        self, put: Sequence[Kept] = (), remove: Sequence[Kept] = (), *, durable: bool = False
    ) -> None:
        """One transaction. ``durable``: on the disk before this returns.

        :raises StoreError: nothing was written (disk full, damaged).
        """

    def meta(self, key: str) -> str | None:
        """A fact kept by name, such as the identity of the host at the last start."""

    def set_meta(self, key: str, value: str) -> None: ...

    def close(self) -> None: ...


_TABLES: Mapping[type, str] = {
    Network: "networks",
    Endpoint: "endpoints",
    SandboxRecord: "sandboxes",
    ContainerRecord: "containers",
    GuestNetwork: "guest_networks",
    GuestEndpoint: "guest_endpoints",
    GuestPool: "guest_pools",
}

_V1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE networks (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE sandboxes (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE containers (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE endpoints (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE pools (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE leases (
    pool TEXT NOT NULL, address BLOB NOT NULL, PRIMARY KEY (pool, address)) WITHOUT ROWID;
CREATE TABLE sysctls (
    name TEXT PRIMARY KEY, old TEXT NOT NULL, new TEXT NOT NULL) WITHOUT ROWID;
"""

# what IPAM drivers keep; what an engine keeps through our plugin: cnm.guestapi
_V2 = """
CREATE TABLE notes (
    owner TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE TABLE guest_networks (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE guest_endpoints (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE guest_pools (id TEXT PRIMARY KEY, document TEXT NOT NULL);
"""

# MIGRATIONS[n] takes schema n to n + 1; the first makes a new database.
MIGRATIONS: tuple[str, ...] = (_V1, _V2)


class SqliteStore:
    """The store on disk. Also the IPAM's ``LeaseStore`` and the ``SysctlLedger``.

    :raises StoreError: the file is damaged, newer than this program, or cannot be
        opened. It is left as it was.
    """

    def __init__(self, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._in_transaction = False
        self._full_sync = False
        if path.exists() and path.stat().st_size:
            _refuse_unusable(path, len(migrations))
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._migrate(migrations)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use database {path}: {error}") from error
        self.ledger = Ledger(self)
        self.leases = Leases(self)
        if self.meta("daemon_id") is None:
            self.set_meta("daemon_id", secrets.token_hex(32))

    @property
    def daemon_id(self) -> str:
        """64 hex digits, chosen once for this database."""
        return self.meta("daemon_id") or ""

    def all(self, kind: type[R]) -> Sequence[R]:
        """Every record of one kind, oldest first."""
        rows = self.query(f"SELECT document FROM {_TABLES[kind]} ORDER BY rowid")
        return [codec.loads(kind, str(document)) for (document,) in rows]

    def write(
        self, put: Sequence[Kept] = (), remove: Sequence[Kept] = (), *, durable: bool = False
    ) -> None:
        """One transaction; see :class:`Store`."""
        with self.transaction(durable=durable):
            for record in put:
                self.execute(
                    f"INSERT INTO {_TABLES[type(record)]} VALUES (?, ?)"
                    " ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                    (record.id, codec.dumps(record)),
                )
            for record in remove:
                self.execute(f"DELETE FROM {_TABLES[type(record)]} WHERE id = ?", (record.id,))

    def meta(self, key: str) -> str | None:
        """A fact kept by name."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a fact, durably."""
        with self.transaction(durable=True):
            self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Fold the log into the database and close it."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Group writes into one commit; nested calls join the outer one."""
        with self._lock:
            if self._in_transaction:
                yield
                return
            self._synchronous(durable)
            self.execute("BEGIN IMMEDIATE")
            self._in_transaction = True
            try:
                yield
            except BaseException:
                self._in_transaction = False
                self._db.rollback()
                raise
            self._in_transaction = False
            self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()
            raise self._failure(error) from error

    def _synchronous(self, full: bool) -> None:
        if full != self._full_sync:
            self.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._full_sync = full

    def notes(self, owner: str) -> NotesOf:
        """The texts of one part."""
        return NotesOf(self, owner)

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """One writing statement. :raises StoreError: in one line, naming the file."""
        with self._lock:
            try:
                self._db.execute(statement, tuple(values))
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def execute_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """One statement for many rows, in one transaction."""
        with self.transaction():
            try:
                self._db.executemany(statement, values)
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows of one reading statement."""
        with self._lock:
            try:
                return self._db.execute(statement, tuple(values)).fetchall()
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> StoreError:
        hint = ": free some space and try again" if "full" in str(error) else ""
        return StoreError(f"database {self._path}: {error}{hint}")

    def _migrate(self, migrations: Sequence[str]) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if 0 < version < len(migrations):
            _back_up(self._db, self._path.with_name(f"{self._path.name}.v{version}.bak"))
        for number, script in enumerate(migrations[version:], start=version + 1):
            # one transaction a step: a daemon killed here begins the step again
            self._db.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )


def _refuse_unusable(path: Path, newest: int) -> None:
    """Look through a read-only connection, so that a refusal changes nothing."""
    damaged = f"database {path} is damaged (%s); move it away, or put back {path.name}.v*.bak"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            verdict = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            known = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise StoreError(damaged % error) from error
    if version > newest:
        raise StoreError(
            f"database {path} has schema {version}, this version of cnm knows up to {newest}: "
            f"use a newer cnm, or put back {path.name}.v{newest}.bak"
        )
    if verdict != "ok":
        raise StoreError(damaged % verdict.splitlines()[-1])
    if version == 0 and known:
        raise StoreError(damaged % "it is a database of another program")


def _back_up(db: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(target)) as copy:
        db.backup(copy)
    target.chmod(0o600)


class Ledger:
    """Old values of sysctls that we changed: ``cnm.hostapi.SysctlLedger``."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def remembered(self) -> dict[str, tuple[str, str]]:
        """name -> (value before us, value that we set)."""
        rows = self._store.query("SELECT name, old, new FROM sysctls ORDER BY name")
        return {str(name): (str(old), str(new)) for name, old, new in rows}

    def remember(self, name: str, old: str, new: str) -> None:
        """Durable before this returns; an old value that is known already stays."""
        with self._store.transaction(durable=True):
            self._store.execute(
                "INSERT INTO sysctls VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET new = excluded.new",
                (name, old, new),
            )

    def forget(self, name: str) -> None:
        """The old value is back."""
        self._store.execute("DELETE FROM sysctls WHERE name = ?", (name,))


class Leases:
    """Pools and leased addresses: ``cnm.ipamapi.LeaseStore``."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.transaction: Callable[[], contextlib.AbstractContextManager[None]] = store.transaction

    def pools(self) -> Sequence[StoredPool]:
        """All pools, oldest first."""
        rows = self._store.query("SELECT document FROM pools ORDER BY rowid")
        return [codec.loads(StoredPool, str(document)) for (document,) in rows]

    def put_pool(self, pool: StoredPool) -> None:
        """Keep a pool."""
        self._store.execute(
            "INSERT OR REPLACE INTO pools VALUES (?, ?)", (pool.pool_id, codec.dumps(pool))
        )

    def delete_pool(self, pool_id: PoolID) -> None:
        """Forget a pool and its leases."""
        with self._store.transaction():
            self._store.execute("DELETE FROM leases WHERE pool = ?", (pool_id,))
            self._store.execute("DELETE FROM pools WHERE id = ?", (pool_id,))

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All leased addresses of a pool, lowest first."""
        rows = self._store.query(
            "SELECT address FROM leases WHERE pool = ? ORDER BY address", (pool_id,)
        )
        return [ipaddress.ip_address(packed) for (packed,) in rows]  # type: ignore[arg-type]

    def add_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Keep leases; those that are kept already stay."""
        self._store.execute_many(
            "INSERT OR IGNORE INTO leases VALUES (?, ?)",
            ((pool_id, address.packed) for address in addresses),
        )

    def remove_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Forget leases; unknown ones are fine."""
        self._store.execute_many(
            "DELETE FROM leases WHERE pool = ? AND address = ?",
            ((pool_id, address.packed) for address in addresses),
        )


class NotesOf:
    """Texts by key, of one owner: ``cnm.ipamapi.Notes``."""

    def __init__(self, store: SqliteStore, owner: str) -> None:
        self._store = store
        self._owner = owner

    def all(self) -> dict[str, str]:
        """Everything, by key."""
        rows = self._store.query(
            "SELECT key, text FROM notes WHERE owner = ? ORDER BY key", (self._owner,)
        )
        return {str(key): str(text) for key, text in rows}

    def put(self, key: str, text: str) -> None:
        """Keep a text, in the place of one of the same key."""
        self._store.execute(
            "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (self._owner, key, text)
        )

    def delete(self, key: str) -> None:
        """Forget a text. Unknown keys are success."""
        self._store.execute("DELETE FROM notes WHERE owner = ? AND key = ?", (self._owner, key))
