"""A look into a container's network namespace, for CHECK.

What the kernel shows of the calling thread's namespace under ``/proc/thread-self/net``: a
thread enters, reads, and ends. proc(5) has the formats.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cnm.cni.errors import INVALID_ENVIRONMENT, CniError

_CLONE_NEWNET = 0x40000000
_PROC = "/proc/thread-self/net"
_FILES = ("dev", "fib_trie", "if_inet6", "route", "ipv6_route")


class Inside:
    """What a namespace has, read once."""

    def __init__(self, path: str) -> None:
        """:raises CniError: there is no network namespace."""
        self._texts: dict[str, str] = {}
        self._error: OSError | None = None
        thread = threading.Thread(target=self._read, args=(path,))
        thread.start()
        thread.join()
        if self._error is not None:
            why = self._error.strerror
            raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS {path}: {why}") from self._error

    def missing(self, attached: Mapping[str, Any]) -> Sequence[str]:
        """What an attachment should have and the namespace has not, a phrase each."""
        name = attached["Interface"]
        if name not in self._interfaces():
            return [f"interface {name} is missing"]
        present = self._addresses()
        wrong = [
            f"address {item['Address']} is missing"
            for item in attached["Addresses"]
            if ipaddress.ip_interface(item["Address"]).ip not in present
        ]
        gone = set(attached["DefaultRoutes"]) - self._gateways(name)
        return [*wrong, *(f"default route by {gateway} is missing" for gateway in sorted(gone))]

    def _read(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(descriptor)
            for name in _FILES:
                if os.path.exists(f"{_PROC}/{name}"):  # no IPv6 in this kernel
                    with open(f"{_PROC}/{name}", encoding="ascii", errors="replace") as file:
                        self._texts[name] = file.read()
        except OSError as error:
            self._error = error

    def _lines(self, name: str) -> list[str]:
        return self._texts.get(name, "").splitlines()

    def _interfaces(self) -> set[str]:
        return {line.partition(":")[0].strip() for line in self._lines("dev")[2:]}

    def _addresses(self) -> set[object]:
        """Local addresses: ``32 host LOCAL`` below its leaf in the trie, and those of IPv6."""
        found: set[object] = set()
        leaf = ""
        for line in self._lines("fib_trie"):
            word = line.strip()
            if word.startswith("|-- "):
                leaf = word[4:]
            elif word == "/32 host LOCAL":
                found.add(ipaddress.ip_address(leaf))
        for line in self._lines("if_inet6"):
            found.add(ipaddress.IPv6Address(int(line.split()[0], 16)))
        return found

    def _gateways(self, interface: str) -> set[str]:
        """Of the default routes by an interface."""
        found = set()
        for line in self._lines("route")[1:]:
            name, destination, gateway, *_ = line.split()
            if name == interface and int(destination, 16) == 0:
                packed = int(gateway, 16).to_bytes(4, "little")  # as the machine has it
                found.add(str(ipaddress.IPv4Address(packed)))
        for line in self._lines("ipv6_route"):
            fields = line.split()
            if fields[9] == interface and fields[1] == "00":
                found.add(str(ipaddress.IPv6Address(int(fields[4], 16))))
        return found
