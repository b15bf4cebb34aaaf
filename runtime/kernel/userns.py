"""Network namespaces that belong to a user namespace, which is made with each.

Only a process without further threads can enter a user namespace, and whoever makes a
network namespace decides whose it is. The daemon has threads; so another program makes both
and waits (``cat``, until its input ends, as it does with the daemon), the maps are written, and
what is left is a descriptor. The network namespace keeps its owner alive: see ``NS_GET_USERNS``
in ioctl_ns(2). 5 ms.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator, Sequence

from cnm.errors import KernelError
from cnm.idmap import IdMap, IdRange, render

_MAKER = ("unshare", "--user", "--net", "cat")
_WORD = b"\n"  # comes back when both namespaces are made


@contextlib.contextmanager
def network_of_its_own(ids: IdMap) -> Iterator[int]:
    """A descriptor of a new network namespace whose owner is a new user namespace with these ids.

    :raises KernelError: the kernel has no user namespaces, or no more of them.
    """
    try:
        maker = subprocess.Popen(
            _MAKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
        )
    except FileNotFoundError as error:
        raise KernelError(errno.ENOENT, "program unshare, of util-linux") from error
    with maker:
        _wait_until_made(maker)
        _write_maps(maker.pid, ids)
        descriptor = os.open(f"/proc/{maker.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            assert maker.stdin is not None
            maker.stdin.close()


def _wait_until_made(maker: subprocess.Popen[bytes]) -> None:
    assert maker.stdin is not None
    assert maker.stdout is not None
    assert maker.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        maker.stdin.write(_WORD)
    if maker.stdout.read(1) != _WORD:
        reason = maker.stderr.read().decode(errors="replace").strip()
        maker.stdin.close()
        raise KernelError(errno.EPERM, "new user namespace", reason or "its maker has ended")


def _write_maps(pid: int, ids: IdMap) -> None:
    maps: Sequence[tuple[str, Sequence[IdRange]]] = (
        ("gid_map", ids.groups),
        ("uid_map", ids.users),
    )
    for name, ranges in maps:
        try:
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(render(ranges))
        except OSError as error:
            what = f"{name} of a user namespace"
            raise KernelError(error.errno or errno.EIO, what) from error
