"""The text of a container's hosts file and the variables of its links, as Docker's. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cnm.types import IPAddress

_LOOPBACK_LINES = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def hosts(entries: Iterable[tuple[IPAddress | str, str]]) -> str:
    """A hosts file: the loopback lines, then address and names a line."""
    lines = [*_LOOPBACK_LINES, *(f"{address}\t{names}" for address, names in entries)]
    return "".join(f"{line}\n" for line in lines)


def host_names(hostname: str, domainname: str) -> str:
    """What stands behind a container's own address: ``web.example.org web``."""
    full = f"{hostname}.{domainname}" if domainname else hostname
    short = full.partition(".")[0]
    return full if full == short else f"{full} {short}"


def link_environment(
    alias: str, owner: str, address: str, ports: Iterable[str], environment: Iterable[str]
) -> list[str]:
    """The variables of a ``--link`` on the default bridge, as Docker has always set them."""
    prefix = alias.replace("-", "_").upper()
    found = [f"{prefix}_NAME=/{owner}/{alias}"]
    pairs = sorted((int(port.partition("/")[0]), port.partition("/")[2]) for port in ports)
    for number, (port, protocol) in enumerate(pairs):
        url = f"{protocol}://{address}:{port}"
        if number == 0:
            found.append(f"{prefix}_PORT={url}")
        stem = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found += [
            f"{stem}={url}",
            f"{stem}_ADDR={address}",
            f"{stem}_PORT={port}",
            f"{stem}_PROTO={protocol}",
        ]
    for item in environment:
        name, equals, value = item.partition("=")
        if equals and name not in ("HOME", "PATH"):
            found.append(f"{prefix}_ENV_{name}={value}")
    return found
