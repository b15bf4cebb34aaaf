"""The texts of a container's resolv.conf and hosts, in Docker's format. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnm.types import IPAddress

FALLBACK_SERVERS = ("8.8.8.8", "8.8.4.4")  # Docker's, where the host names none of use
_LOOPBACK_LINES = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolv.conf says: resolv.conf(5)."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def render(self) -> str:
        """The file's text; without servers the resolver asks 127.0.0.1."""
        lines = [f"nameserver {server}" for server in self.servers]
        if self.search and self.search != (".",):
            lines.append(f"search {' '.join(self.search)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "".join(f"{line}\n" for line in lines)


def read_resolv_conf(text: str) -> ResolvConf:
    """The last ``search`` (or ``domain``) counts, options add up."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        match words:
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *found]:
                search = tuple(found)
            case ["options", *found]:
                options += found
    return ResolvConf(tuple(servers), search, tuple(options))


def for_container(
    host: ResolvConf,
    servers: Sequence[IPAddress],
    search: Sequence[str],
    options: Sequence[str],
) -> ResolvConf:
    """The host's settings, each part replaced by what was asked.

    The host's resolvers on its loopback are out of a container's reach.
    """
    wanted = tuple(str(server) for server in servers) or tuple(
        server for server in host.servers if _reachable(server)
    )
    return ResolvConf(
        wanted or FALLBACK_SERVERS,
        tuple(search) or host.search,
        tuple(options) or host.options,
    )


def on_host(
    host: ResolvConf, servers: Sequence[IPAddress], search: Sequence[str], options: Sequence[str]
) -> ResolvConf:
    """For a container with the host's own network: all of the host's resolvers are in reach."""
    wanted = tuple(str(server) for server in servers)
    return ResolvConf(
        wanted or host.servers, tuple(search) or host.search, tuple(options) or host.options
    )


def _reachable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return not address.is_loopback and not getattr(address, "scope_id", None)


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
