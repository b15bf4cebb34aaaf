"""Ping, and the way that packets take."""

from __future__ import annotations

import ipaddress
import re
import select
import socket
import struct
import subprocess
import time

from cnm.netlab.model import Ping, Traceroute
from cnm.netlab.probes.outcome import Outcome
from cnm.netlab.vantage import Vantage
from cnm.runtime.kernel.netns import NetNS
from cnm.types import IPAddress

_ANSWER_WITHIN_S = 1
_BETWEEN_S = 0.05
_MOST_HOPS = 30
_FIRST_PORT = 33434  # traceroute(8)'s: nobody listens there
_HOP_WITHIN_S = 1.0
_TRIES = 2  # routers limit the rate of their ICMP errors
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # in.h, in6.h
_SUMMARY = re.compile(r"^\d+ packets transmitted.*$", re.MULTILINE)
_REASON = re.compile(r"^(?:From .*?|ping: .*)$", re.MULTILINE)


def ping(source: Vantage, probe: Ping, address: IPAddress) -> Outcome:
    """ICMP echo; all must be answered."""
    command = ["nsenter", f"--net={source.netns}", "ping", "-n", f"-{address.version}"]
    command += ["-c", str(probe.count), "-W", str(_ANSWER_WITHIN_S), "-i", str(_BETWEEN_S)]
    if probe.size is not None:
        command += ["-s", str(probe.size)]
    if probe.dont_fragment:
        command += ["-M", "do"]
    ended = subprocess.run(
        [*command, str(address)], capture_output=True, text=True, check=False, errors="replace"
    )
    said = ended.stdout + ended.stderr
    found = _SUMMARY.search(said)
    reason = _REASON.search(said)
    detail = found[0] if found else said.strip().splitlines()[-1] if said.strip() else "no answer"
    if reason is not None and ended.returncode != 0:
        detail = f"{reason[0]}; {detail}"
    lost = " 0% packet loss" not in detail
    return Outcome(ended.returncode == 0 and not lost, f"{address}: {detail}")


def traceroute(source: Vantage, probe: Traceroute, address: IPAddress) -> Outcome:
    """The hops to an address, the last one included (UDP with growing hop limits)."""
    with NetNS(source.netns) as namespace:
        hops = namespace.run(lambda: _hops(address))
    shown = " ".join(str(hop) if hop else "*" for hop in hops)
    if not hops or hops[-1] != address:
        return Outcome(False, f"{address} is not reached: {shown or 'no hop answers'}")
    right_number = probe.hops is None or len(hops) == probe.hops
    right_way = not probe.via or tuple(hops[:-1]) == probe.via
    wanted = "" if right_number else f"; not {probe.hops} hops"
    if not right_way:
        wanted += f"; not by way of {' '.join(map(str, probe.via))}"
    return Outcome(not wanted, f"{len(hops)} hops: {shown}{wanted}")


def _hops(address: IPAddress) -> list[IPAddress | None]:
    found: list[IPAddress | None] = []
    for limit in range(1, _MOST_HOPS + 1):
        hop, ended = None, False
        for _ in range(_TRIES):
            hop, ended = _hop(address, limit)
            if hop is not None:
                break
        found.append(hop)
        if ended or found[-3:] == [None] * 3:
            break
    return found


def _hop(address: IPAddress, limit: int) -> tuple[IPAddress | None, bool]:
    """Who answers at that distance, and whether it is the end of the way."""
    v6 = address.version == 6
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as link:
        if v6:
            link.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, limit)
        else:
            link.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            link.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)
        try:
            link.connect((str(address), _FIRST_PORT + limit))
            link.send(b"netlab")
        except OSError:
            return None, True  # no route
        return _error(link, v6)


def _error(link: socket.socket, v6: bool) -> tuple[IPAddress | None, bool]:
    """The ICMP error that comes back: sock_extended_err of ip(7)."""
    poll = select.poll()
    poll.register(link, select.POLLERR)
    deadline = time.monotonic() + _HOP_WITHIN_S
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            continue
        _, ancillary, _, _ = link.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        for _, kind, data in ancillary:
            if kind in (_IP_RECVERR, _IPV6_RECVERR):
                return _offender(data, v6)
    return None, False


def _offender(data: bytes, v6: bool) -> tuple[IPAddress | None, bool]:
    _, origin, icmp_type = struct.unpack_from("=IBB", data)
    unreachable, local = (1, 1) if v6 else (3, 1)
    if origin == local:
        return None, True
    raw = data[16 + 8 : 16 + 24] if v6 else data[16 + 4 : 16 + 8]
    return ipaddress.ip_address(raw), icmp_type == unreachable
