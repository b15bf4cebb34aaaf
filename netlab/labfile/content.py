"""What a lab file says runs on a host: daemons, networks, containers, processes, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from cnm.netlab.labfile import values
from cnm.netlab.labfile.document import Field, Section, nearest
from cnm.netlab.model import (
    Attachment,
    Container,
    Daemon,
    Engine,
    Image,
    Network,
    Port,
    Process,
    Subnet,
)
from cnm.types import IPAddress

DAEMONS = ("cnm", "docker", "etcd")
COUNT_MAX = 1000  # of one container; what a bridge has ports for (1024), nearly
THE_HOSTS_ROOT = "host"  # the image that needs no image, of the cnm daemon
BUSYBOX = "busybox"  # made of the machine's own, where the file does not say otherwise

_ENGINES: tuple[Engine, ...] = ("cnm", "docker")
_PREDEFINED = ("bridge", "host", "none")
_NETWORK_KEYS = (
    "engine",
    "driver",
    "subnets",
    "ipv6",
    "internal",
    "attachable",
    "options",
    "labels",
)
_CONTAINER_KEYS = (
    *("engine", "image", "command", "count", "networks", "ports", "environment", "hostname"),
    *("privileged", "dns", "host-config"),
)


def read_daemon(kind: str, field: Field) -> Daemon:
    """``cnm:``, ``docker:`` or ``etcd:`` of a host."""
    known = ("flags",) if kind == "etcd" else ("flags", "config")
    section = field.section(*known)
    return Daemon(
        cast(Literal["cnm", "docker", "etcd"], kind),
        flags=section.one("flags", values.command, ()),
        config=section.one("config", lambda item: item.json(), "{}"),
    )


def read_process(name: str, field: Field) -> Process:
    """A member of ``processes``: a command, or a mapping with one."""
    field.parsed_name(values.object_name)
    if field.is_mapping:
        return Process(name, field.section("command").need("command", values.command))
    return Process(name, values.command(field))


def read_image(name: str, field: Field, folder: Path, *, must_exist: bool) -> Image:
    """A member of ``images``; files are looked for beside the lab file."""
    if field.scalar() == BUSYBOX:
        return Image(name, "busybox")
    section = field.section("rootfs", "archive")
    given = [key for key in ("rootfs", "archive") if key in section]
    if len(given) != 1:
        raise field.refuse('needs a file: "rootfs" (a tar) or "archive" (of docker save)')
    text = section.need(given[0], lambda item: item.text())
    path = folder / text
    if must_exist and not path.is_file():
        raise field.refuse(f"no file {path}")
    return Image(name, cast(Literal["rootfs", "archive"], given[0]), path)


class HostContent:
    """Reads networks and containers of one host, whose engines are known."""

    def __init__(self, engines: Sequence[Engine], images: Sequence[str]) -> None:
        self._engines = engines
        self._images = images
        self._networks: dict[tuple[Engine, str], Field] = {}

    def networks(self, section: Section) -> tuple[Network, ...]:
        """The key ``networks`` of a host."""
        return section.named("networks", self._network)

    def containers(self, section: Section) -> tuple[Container, ...]:
        """The key ``containers`` of a host, after :meth:`networks`."""
        found = section.named("containers", self._container)
        every = tuple(container for group in found for container in group)
        names: set[tuple[Engine, str]] = set()
        for item in every:
            if (item.engine, item.name) in names:
                field = section.get("containers")
                assert field is not None
                field.refuse(f'two containers are named "{item.name}"')
            names.add((item.engine, item.name))
        return every

    def _engine(self, section: Section) -> Engine:
        """The engine that is named, or the only one that the host has."""
        found = section.get("engine")
        if found is not None:
            wanted = cast(Engine, found.choice(*_ENGINES))
            if wanted not in self._engines:
                raise found.refuse(f'the host has no daemon "{wanted}"')
            return wanted
        if not self._engines:
            raise section.field.refuse("the host has no daemon: give it one (cnm: or docker:)")
        if len(self._engines) > 1:
            raise section.field.refuse('the host has cnm and docker: say "engine"')
        return self._engines[0]

    def _network(self, name: str, field: Field) -> Network:
        field.parsed_name(values.object_name)
        section = field.section(*_NETWORK_KEYS)
        engine = self._engine(section)
        if name in _PREDEFINED:
            raise field.refuse(f'every engine has a network "{name}" of its own')
        self._networks[engine, name] = field
        return Network(
            name,
            engine,
            driver=section.one("driver", lambda item: item.text(), "bridge"),
            subnets=section.many("subnets", _subnet),
            ipv6=section.one("ipv6", lambda item: item.boolean(), False),
            internal=section.one("internal", lambda item: item.boolean(), False),
            attachable=section.one("attachable", lambda item: item.boolean(), False),
            options=section.one("options", values.pairs, ()),
            labels=section.one("labels", values.pairs, ()),
        )

    def _container(self, name: str, field: Field) -> tuple[Container, ...]:
        section = field.section(*_CONTAINER_KEYS)
        engine = self._engine(section)
        count = section.one("count", lambda item: item.integer(1, COUNT_MAX), None)
        field.parsed_name(values.container_name if count is None else values.object_name)
        made = Container(
            name,
            engine,
            image=section.need("image", lambda item: self._image(item, engine)),
            command=section.one("command", values.command, ()),
            networks=self._attachments(section, engine),
            ports=section.many("ports", read_port),
            environment=section.one("environment", values.pairs, ()),
            hostname=section.one("hostname", lambda item: item.text(), None),
            privileged=section.one("privileged", lambda item: item.boolean(), False),
            dns=section.many("dns", lambda item: item.parsed(values.address)),
            host_config=section.one("host-config", lambda item: item.json(), "{}"),
        )
        if count is None:
            return (made,)
        self._check_countable(section, made)
        return tuple(replace(made, name=f"{name}-{number}") for number in range(1, count + 1))

    def _check_countable(self, section: Section, made: Container) -> None:
        fixed = any(item.ipv4 or item.ipv6 or item.mac for item in made.networks)
        if fixed or any(port.host_port for port in made.ports):
            field = section.get("count")
            assert field is not None
            field.refuse("several containers cannot share an address, a MAC address or a host port")

    def _image(self, field: Field, engine: Engine) -> str:
        name = field.text()
        if name == THE_HOSTS_ROOT:
            if engine == "docker":
                raise field.refuse('docker has no image "host", that is cnm\'s: take busybox')
        elif name != BUSYBOX and name not in self._images:
            known = (*self._images, BUSYBOX, THE_HOSTS_ROOT)
            raise field.refuse(f'no image "{name}" under images{nearest(name, known)}')
        return name

    def _attachments(self, section: Section, engine: Engine) -> tuple[Attachment, ...]:
        field = section.get("networks")
        if field is None:
            return ()
        if field.is_mapping:
            return section.named("networks", lambda name, item: self._attached(name, item, engine))
        return field.each(lambda item: self._attached(item.text(), item, engine))

    def _attached(self, name: str, field: Field, engine: Engine) -> Attachment:
        if name not in _PREDEFINED and (engine, name) not in self._networks:
            known = (*(network for owner, network in self._networks if owner == engine), "bridge")
            raise field.refuse(f'no network named "{name}" on this host{nearest(name, known)}')
        if not field.is_mapping:
            return Attachment(name)
        section = field.section("ip", "ip6", "mac", "aliases")
        return Attachment(
            name,
            ipv4=section.one("ip", lambda item: item.parsed(values.ipv4_address), None),
            ipv6=section.one("ip6", lambda item: item.parsed(values.ipv6_address), None),
            mac=section.one("mac", lambda item: item.parsed(values.mac_address), None),
            aliases=section.many("aliases", lambda item: item.text()),
        )


def _subnet(field: Field) -> Subnet:
    if not field.is_mapping:
        return Subnet(field.parsed(values.network))
    section = field.section("subnet", "gateway", "ip-range")
    made = Subnet(
        subnet=section.need("subnet", lambda item: item.parsed(values.network)),
        gateway=section.one("gateway", lambda item: item.parsed(values.address), None),
        ip_range=section.one("ip-range", lambda item: item.parsed(values.network), None),
    )
    if made.gateway is not None and made.gateway not in made.subnet:
        field.refuse(f"the gateway {made.gateway} is not in {made.subnet}")
    return made


def read_port(field: Field) -> Port:
    """Docker's short form: ``[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]``."""
    text, _, protocol = field.text().partition("/")
    protocol = protocol or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise field.refuse(f'"{protocol}" is not tcp, udp or sctp')
    rest, _, inside = text.rpartition(":")
    address, _, outside = rest.rpartition(":")
    return Port(
        container_port=_port(field, inside),
        protocol=cast(Literal["tcp", "udp", "sctp"], protocol),
        host_port=_port(field, outside) if outside else None,
        host_address=_bound(field, address) if address else None,
    )


def _port(field: Field, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise field.refuse(f'"{text}" is not a port: [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]')
    return int(text)


def _bound(field: Field, text: str) -> IPAddress:
    try:
        return values.address(text.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise field.refuse(str(error)) from None
