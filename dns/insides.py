"""What the resolver has inside a sandbox: two sockets, and the table that leads to them.

All functions are to be called in its namespace (``Inside.run``), but sockets may be used
from anywhere. A sandbox that was given back has neither.
"""

from __future__ import annotations

import errno

from cnm.dns import rewrite
from cnm.dns.sockets import Sockets, open_sockets
from cnm.errors import KernelError
from cnm.runtime.kernel import nftgen, nfwire


def open_all() -> Sockets:
    """Sockets and table. :raises KernelError: nothing is left behind."""
    sockets = open_sockets(str(rewrite.RESOLVER), 0)
    try:
        _load(_table(sockets))
    except BaseException:
        sockets.close()
        raise
    return sockets


def _load(table: nfwire.WireTable) -> None:
    try:
        nfwire.add(table)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        nfwire.replace(table)  # left by a resolver that was lost with its daemon


def remove_table() -> None:
    """Gone is success."""
    if nfwire.exists(nfwire.IPV4, rewrite.TABLE):  # each removal waits 13 ms for RCU
        nfwire.delete(nfwire.IPV4, rewrite.TABLE)


def repair_table(sockets: Sockets, generation: int) -> tuple[bool, int]:
    """Whether the rules had to be loaded again, and their generation now.

    ``generation``: where they were whole; as long as it stays nobody has changed a rule.
    """
    if nftgen.generation() == generation:
        return False, generation
    table = _table(sockets)
    broken = nfwire.comments(table) != [rule.comment for rule in table.rules]
    if broken:
        nfwire.replace(table)
    return broken, nftgen.generation()


def _table(sockets: Sockets) -> nfwire.WireTable:
    return rewrite.table(sockets.udp.getsockname()[1], sockets.tcp.getsockname()[1])
