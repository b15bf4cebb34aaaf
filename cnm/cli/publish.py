"""``--publish`` and ``--expose``: port specifications as the API has them.

``80``, ``8080:80``, ``127.0.0.1:8080:80/udp``, ``[::1]::80``, ``5000-5010:80-90``,
``8000-8010:80`` (any of them), ``published=8080,target=80,protocol=udp``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from cnm.cli.errors import CommandError

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_PORT = 65535

Bindings = dict[str, list[dict[str, str]]]


def published(specifications: Iterable[str]) -> Bindings:
    """The bindings of each port of the container, in the order in which they were given.

    :raises CommandError: with Docker's words, for what cannot be read.
    """
    bindings: Bindings = {}
    for specification in specifications:
        for port, address, host_port in _mappings(_positional(specification)):
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": host_port})
    return bindings


def exposed(specifications: Iterable[str]) -> list[str]:
    """Each port of ``80``, ``80/udp``, ``80-90``.

    :raises CommandError: as ``published``.
    """
    return [port for text in specifications for port in _exposed(text)]


def _positional(text: str) -> str:
    """``published=8080,target=80`` in the short form."""
    if "=" not in text:
        return text
    given = {"protocol": "tcp"}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise CommandError(
                f"invalid publish opts format (should be name=value but got '{part}')"
            )
        given[key] = value
    return f"{given.get('published', '')}:{given.get('target', '')}/{given['protocol']}"


def _mappings(text: str) -> Iterable[tuple[str, str, str]]:
    """Port of the container, address and port of the host, one by one."""
    *head, container = text.split(":")
    host = head.pop() if head else ""
    address = _address(":".join(head))
    protocol, ports = _protocol(container)
    if not ports:
        raise CommandError(f"no port specified: {text}<empty>")
    first, last = _range(ports, f"invalid containerPort: {ports}")
    host_first, host_last = _range(host, f"invalid hostPort: {host}") if host else (0, 0)
    if host and last - first != host_last - host_first and first != last:
        raise CommandError(
            f"invalid ranges specified for container and host Ports: {ports} and {host}"
        )
    if protocol.lower() not in _PROTOCOLS:
        raise CommandError(f"invalid proto: {protocol}")
    for number in range(first, last + 1):
        host_port = str(host_first + number - first) if host else ""
        if first == last and host_first != host_last:
            host_port = f"{host_first}-{host_last}"
        yield f"{number}/{protocol.lower()}", address, host_port


def _address(text: str) -> str:
    """The host's address without its brackets."""
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or rest:
            raise CommandError(f"invalid IP address {text}: address {text}:: missing ']' or port")
        text = inner
    if text and not is_address(text):
        raise CommandError(f"invalid IP address: {text}")
    return text


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address. (Importing ``ipaddress`` costs 5 ms.)"""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _protocol(text: str) -> tuple[str, str]:
    ports, _, protocol = text.partition("/")
    return ("", "") if not ports else (protocol.partition("/")[0] or "tcp", ports)


def _range(text: str, problem: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        numbers = port_number(first), port_number(last if dash else first)
    except CommandError:
        raise CommandError(problem) from None
    if numbers[1] < numbers[0]:
        raise CommandError(problem)
    return numbers


def port_number(text: str) -> int:
    """One port.

    :raises CommandError: when it is none, in Go's words.
    """
    if not (text.isascii() and text.isdigit()):
        raise CommandError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > _LAST_PORT:
        raise CommandError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _exposed(text: str) -> Iterable[str]:
    if ":" in text:
        raise CommandError(f"invalid port format for --expose: {text}")
    protocol, ports = _protocol(text)
    first, _, last = ports.partition("-")
    problem = f"invalid range format for --expose: {text}, error: "
    if not ports:
        raise CommandError(f"{problem}empty string specified for ports")
    try:
        start, end = port_number(first), port_number(last if "-" in ports else first)
    except CommandError as error:
        raise CommandError(f"{problem}{error}") from None
    if end < start:
        raise CommandError(f"{problem}invalid range specified for port: {ports}")
    return [f"{number}/{protocol}" for number in range(start, end + 1)]


def bound(private: str, bindings: Iterable[Mapping[str, str]] | None) -> list[str]:
    """``80/tcp -> 0.0.0.0:5005``, a line for each place where a port is published."""
    return [f"{private} -> {shown(binding)}" for binding in bindings or ()]


def shown(binding: Mapping[str, str]) -> str:
    """``0.0.0.0:5005``, ``[::]:5005``."""
    address = binding.get("HostIp", "")
    return f"{f'[{address}]' if ':' in address else address}:{binding.get('HostPort', '')}"
