"""Images, networks and containers of the lab file, through the API of the host's engines.

What is missing is made, what is there is left: an engine is asked for all it has first. A
container that has ended is started again.
"""

from __future__ import annotations

import functools
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnm.netlab import model
from cnm.netlab.engineapi import EngineApi, EngineError
from cnm.netlab.errors import LabError
from cnm.netlab.host import Host
from cnm.netlab.labfile.content import BUSYBOX, THE_HOSTS_ROOT

_APPLETS = (
    *("sh", "sleep", "cat", "echo", "ip", "ping", "ping6", "nc", "wget", "httpd", "nslookup"),
    *("traceroute", "udhcpc", "ls", "hostname", "true", "false", "env", "ps", "vi", "grep"),
)


def ensure(host: Host, engine: model.Engine, lab: model.Lab, done: Callable[[], None]) -> list[str]:
    """Make what one engine of a host lacks; names of what was made.

    ``done`` is called after each network and container.

    :raises LabError: what the engine refused, and of what.
    """
    networks = [item for item in host.spec.networks if item.engine == engine]
    containers = [item for item in host.spec.containers if item.engine == engine]
    with host.api(engine) as api:
        work = _Work(host, api, lab)
        try:
            work.images({item.image for item in containers})
            work.networks(networks, done)
            work.containers(containers, done)
        except OSError as error:
            raise LabError(f"{host.name}: {engine} does not answer: {error}") from error
    return work.made


class _Work:
    def __init__(self, host: Host, api: EngineApi, lab: model.Lab) -> None:
        self._host = host
        self._api = api
        self._lab = lab
        self.made: list[str] = []

    def images(self, names: set[str]) -> None:
        wanted = sorted(names - {THE_HOSTS_ROOT})
        if not wanted:
            return
        there = {
            tag.removesuffix(":latest")
            for image in self._api.get("/images/json")
            for tag in image.get("RepoTags") or ()
        }
        for name in wanted:
            if name not in there:
                self._say(f"image {name}", functools.partial(self._bring, name))

    def _bring(self, name: str) -> None:
        image = next((item for item in self._lab.images if item.name == name), None)
        if image is None or image.path is None:
            self._import(name, busybox_tar())
        elif image.source == "rootfs":
            self._import(name, image.path.read_bytes())
        else:
            self._api.post("/images/load", image.path.read_bytes(), quiet="1")

    def _import(self, name: str, tar: bytes) -> None:
        repository, _, tag = name.partition(":")
        self._api.post("/images/create", tar, fromSrc="-", repo=repository, tag=tag or "latest")

    def networks(self, wanted: Sequence[model.Network], done: Callable[[], None]) -> None:
        there = {item["Name"] for item in self._api.get("/networks")} if wanted else set()
        for network in wanted:
            if network.name not in there:
                wish = network_wish(network)
                self._say(
                    f"network {network.name}",
                    functools.partial(self._api.post, "/networks/create", wish),
                )
            done()

    def containers(self, wanted: Sequence[model.Container], done: Callable[[], None]) -> None:
        if not wanted:
            return
        there: dict[str, Mapping[str, Any]] = {
            name.removeprefix("/"): item
            for item in self._api.get("/containers/json", all="1")
            for name in item["Names"]
        }
        for container in wanted:
            self._ensure_container(container, there.get(container.name))
            done()

    def _ensure_container(
        self, container: model.Container, there: Mapping[str, Any] | None
    ) -> None:
        what = f"container {container.name}"
        if there is None:
            self._say(what, lambda: self._create(container))
            return
        attached = (there.get("NetworkSettings") or {}).get("Networks") or {}
        for place in container.networks:
            if place.network not in attached:
                self._say(
                    f"{what} on {place.network}",
                    functools.partial(self._connect, container, place),
                )
        if there["State"] != "running":
            self._say(what, lambda: self._api.post(f"/containers/{container.name}/start"))

    def _create(self, container: model.Container) -> None:
        self._api.post("/containers/create", container_wish(container), name=container.name)
        for place in container.networks[1:]:
            self._connect(container, place)
        self._api.post(f"/containers/{container.name}/start")

    def _connect(self, container: model.Container, place: model.Attachment) -> None:
        wish = {"Container": container.name, "EndpointConfig": endpoint_wish(place)}
        self._api.post(f"/networks/{place.network}/connect", wish)

    def _say(self, what: str, make: Callable[[], object]) -> None:
        try:
            make()
        except EngineError as error:
            raise LabError(f"{self._host.name}: {what}: {error}") from error
        self.made.append(f"{what} on {self._host.name}")


def network_wish(network: model.Network) -> dict[str, Any]:
    """The body of ``POST /networks/create``."""
    config = []
    for pool in network.subnets:
        entry = {"Subnet": str(pool.subnet)}
        if pool.gateway is not None:
            entry["Gateway"] = str(pool.gateway)
        if pool.ip_range is not None:
            entry["IPRange"] = str(pool.ip_range)
        config.append(entry)
    return {
        "Name": network.name,
        "CheckDuplicate": True,  # 20.10 makes a second one of the name without
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "Internal": network.internal,
        "Attachable": network.attachable,
        "IPAM": {"Config": config},
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def container_wish(container: model.Container) -> dict[str, Any]:
    """The body of ``POST /containers/create``: on its first network; the others are connected."""
    exposed: dict[str, dict[str, str]] = {
        f"{port.container_port}/{port.protocol}": {} for port in container.ports
    }
    host_config: dict[str, Any] = {
        "PortBindings": _bindings(container.ports),
        "Privileged": container.privileged,
        "Dns": [str(address) for address in container.dns],
    }
    wish: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{key}={value}" for key, value in container.environment],
        "ExposedPorts": exposed,
        "HostConfig": host_config,
    }
    if container.command:
        wish["Cmd"] = list(container.command)
    if container.hostname:
        wish["Hostname"] = container.hostname
    if container.networks:
        first = container.networks[0]
        host_config["NetworkMode"] = first.network
        wish["NetworkingConfig"] = {"EndpointsConfig": {first.network: endpoint_wish(first)}}
    host_config.update(json.loads(container.host_config))
    return wish


def endpoint_wish(place: model.Attachment) -> dict[str, Any]:
    """What the API wants to know of a container's place on a network."""
    addresses = {}
    if place.ipv4 is not None:
        addresses["IPv4Address"] = str(place.ipv4)
    if place.ipv6 is not None:
        addresses["IPv6Address"] = str(place.ipv6)
    wish: dict[str, Any] = {}
    if addresses:
        wish["IPAMConfig"] = addresses
    if place.aliases:
        wish["Aliases"] = list(place.aliases)
    if place.mac is not None:
        wish["MacAddress"] = place.mac
    return wish


def _bindings(ports: Sequence[model.Port]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        key = f"{port.container_port}/{port.protocol}"
        address = str(port.host_address) if port.host_address is not None else ""
        found.setdefault(key, []).append({"HostIp": address, "HostPort": str(port.host_port or "")})
    return found


@functools.cache
def busybox_tar() -> bytes:
    """A root file system with the machine's static busybox and its usual names in it.

    :raises LabError: the machine has none.
    """
    program = shutil.which("busybox")
    if program is None:
        raise LabError(f"image {BUSYBOX}: no busybox: install it (Debian: busybox-static)")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(Path(program).resolve(), "bin/busybox")
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()
