"""Limits and sysctls that make sense, and Docker's words for those that do not. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cnm.errors import InvalidParameter
from cnm.runtimeapi import Limits

MINIMUM_MEMORY = 6 << 20  # Docker's: less does not hold a shell and the kernel's own needs
CPU_PERIOD_US = 100_000  # the kernel's default

# What an own IPC namespace has of kernel.*; fs.mqueue.* and net.* go by their prefix.
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)

# What Docker sets in a network namespace of the container's own, so that nobody there
# needs a capability for low ports and ping.
DEFAULT_NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}


def check_limits(limits: Limits, cpus_available: int) -> None:
    """:raises InvalidParameter: with Docker's text."""
    memory, swap = limits.memory_bytes, limits.memory_swap_bytes
    if memory < 0 or 0 < memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if swap < -1:
        raise InvalidParameter(f"invalid memory-swap limit {swap}: use -1 for none")
    if swap and not memory:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    _check_cpus(limits.cpus, cpus_available)
    if limits.pids < -1:
        raise InvalidParameter(f"invalid pids limit {limits.pids}: use -1 or 0 for none")


def _check_cpus(cpus: float, available: int) -> None:
    if cpus < 0 or cpus > available or 0 < cpus < 0.01:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {available}.00, as there are only"
            f" {available} CPUs available"
        )


def cpu_quota_us(limits: Limits) -> int:
    """Microseconds of processor in each ``CPU_PERIOD_US``; the kernel takes no less than 1000."""
    return max(1000, round(limits.cpus * CPU_PERIOD_US)) if limits.cpus else 0


def swap_total(limits: Limits) -> int:
    """Memory and swap together: twice the memory if nothing was said, -1 for no limit."""
    return limits.memory_swap_bytes or 2 * limits.memory_bytes


def effective_sysctls(asked: Mapping[str, str], *, own_network: bool) -> dict[str, str]:
    """Docker's defaults for an own network namespace, and then what was asked.

    :raises InvalidParameter: a sysctl that is not the container's alone; Docker's text.
    """
    for name, value in asked.items():
        _check_sysctl(name, value, own_network=own_network)
    return {**(DEFAULT_NETWORK_SYSCTLS if own_network else {}), **asked}


def _check_sysctl(name: str, value: str, *, own_network: bool) -> None:
    clean = ".." not in name and "/" not in name.replace("net/", "", 1) and "\0" not in name
    if name.startswith("net.") and clean:
        if not own_network:
            raise InvalidParameter(f"sysctl '{name}={value}' not allowed in host network namespace")
        return
    if not clean or not (name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")):
        raise InvalidParameter(f"sysctl '{name}={value}' is not allowed")
