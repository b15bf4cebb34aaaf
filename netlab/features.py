"""What this kernel can do, found out by doing it in a network namespace that is thrown away.

A configuration file tells what a kernel was built with, if it is there at all; whether the
module can be loaded here, and by us, only a try tells.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from cnm.errors import InvalidParameter

_TIMEOUT_S = 60  # the first use loads a module; under emulation that takes seconds
_IPPROTO_SCTP = 132
_KEY = "0x" + "11" * 20  # AES-128 and the salt of RFC 4106
_STATE = "ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto"
_CONTROLLERS = frozenset({"cpu", "memory", "pids"})


def _commands(*commands: str) -> bool:
    """Whether they all succeed, one after the other."""
    return all(_command(command) for command in commands)


def _command(command: str) -> bool:
    done = subprocess.run(
        command.split(), stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S
    )
    return done.returncode == 0


def _link(kind: str) -> Callable[[], bool]:
    return partial(_commands, f"ip link add probe type {kind}")


def _link_on_parent(kind: str) -> Callable[[], bool]:
    return partial(
        _commands,
        "ip link add parent type veth peer name other",
        f"ip link add probe link parent type {kind}",
    )


def _qdisc(kind: str) -> Callable[[], bool]:
    return partial(_commands, f"tc qdisc add dev lo root {kind}")


def _sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def _cgroup2() -> bool:
    """The unified hierarchy with the controllers that limit containers."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    unified = [fields[4] for fields in mounts if "cgroup2" in fields]
    return any(
        set(Path(place, "cgroup.controllers").read_text().split()) >= _CONTROLLERS
        for place in unified
    )


PROBES: Mapping[str, Callable[[], bool]] = {
    "bond": _link("bond"),
    "bridge": _link("bridge"),
    "cgroup2": _cgroup2,
    "dummy": _link("dummy"),
    "esp": partial(_commands, f"{_STATE} esp spi 1 aead rfc4106(gcm(aes)) {_KEY} 128"),
    "flowtable": partial(
        _commands,
        "nft add table inet probe",
        "nft add flowtable inet probe f { hook ingress priority 0 ; devices = { lo } ; }",
    ),
    "fq_codel": _qdisc("fq_codel"),
    "geneve": _link("geneve id 1 remote 10.0.0.1"),
    "htb": _qdisc("htb"),
    "ipvlan": _link_on_parent("ipvlan mode l2"),
    "ipvs": partial(_commands, "genl ctrl get name IPVS"),
    "macvlan": _link_on_parent("macvlan mode bridge"),
    "netem": _qdisc("netem delay 1ms"),
    "sctp": _sctp,
    "tbf": _qdisc("tbf rate 1mbit burst 16kb latency 50ms"),
    "vlan": _link_on_parent("vlan id 100"),
    "vrf": _link("vrf table 100"),
    "vxlan": _link("vxlan id 1 dstport 4789 remote 10.0.0.1"),
    "wireguard": _link("wireguard"),
}


class Features:
    """Answers about the running kernel, each looked for once. Needs root."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        """Whether the kernel has a feature of :data:`PROBES`.

        :raises InvalidParameter: no such name.
        :raises KernelError: no right to make a network namespace.
        """
        if name not in self._known:
            # pyroute2 comes with it, 130 ms: not for those who never ask, as most test runs
            from cnm.runtime.kernel.scratch import in_scratch_namespace

            self._known[name] = in_scratch_namespace(_probe_of(name))
        return self._known[name]

    def lacking(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those that it has not, in their order."""
        return tuple(name for name in names if not self.has(name))


def _probe_of(name: str) -> Callable[[], bool]:
    if name not in PROBES:
        raise InvalidParameter(f"no kernel feature {name}; known are: {', '.join(sorted(PROBES))}")
    return PROBES[name]
