"""Ports on the wire made into values: ``{"80/tcp": [{"HostIp": "", "HostPort": "5005"}]}``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cnm.engine.createbody import PortBody
from cnm.errors import InvalidParameter
from cnm.types import IPAddress, PortBinding

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


def bindings(port_map: Mapping[str, Sequence[PortBody] | None]) -> Iterator[PortBinding]:
    """What is asked for, in order. A port with no binding is not published.

    :raises InvalidParameter: naming what cannot be read, in Docker's words.
    """
    addresses: dict[str, IPAddress | None] = {"": None}
    for key, items in port_map.items():
        number, protocol = _port(key)
        for item in items or ():
            first, last = _host_port(item.host_port)
            text = item.host_ip
            if text not in addresses:
                addresses[text] = _address(text)
            end = last if last > first else 0
            yield PortBinding(protocol, number, addresses[text], first, end)


def exposed(keys: Iterable[str]) -> Iterator[str]:
    """Each port of ``80/tcp``, ``80``, ``80-90/udp``.

    :raises InvalidParameter: naming what cannot be read.
    """
    for key in keys:
        text, protocol = _split(key)
        first, last = _range(text, key)
        for number in range(first, last + 1):
            yield f"{number}/{protocol}"


def _port(key: str) -> tuple[int, str]:
    text, protocol = _split(key)
    first, last = _range(text, text)
    if first != last:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return first, protocol


def _split(key: str) -> tuple[str, str]:
    text, _, protocol = key.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    return text, protocol


def _range(text: str, shown: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < first <= last <= _LAST:
        raise InvalidParameter(f'invalid port specification: "{shown}"')
    return first, last


def _host_port(text: str) -> tuple[int, int]:
    """Empty and 0: any."""
    return (0, 0) if text in ("", "0") else _range(text, text)


def _address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {text}") from None


def wanted_ports(key: str, values: Iterable[str]) -> set[str]:
    """The ports that a filter ``expose`` or ``publish`` names, as ``80/tcp``.

    :raises InvalidParameter: a value that is no port, in Docker's words.
    """
    found: set[str] = set()
    for value in values:
        if ":" in value:
            raise InvalidParameter(f"filter for '{key}' should not contain ':': {value}")
        try:
            found.update(exposed((value,)))
        except InvalidParameter as error:
            raise InvalidParameter(f"error while looking up for {value}: {error}") from None
    return found
