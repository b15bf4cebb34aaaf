"""Vantages of a lab that is up: its hosts, and the containers of their engines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from cnm.netlab import marks
from cnm.netlab.engineapi import EngineError
from cnm.netlab.errors import LabError
from cnm.netlab.host import Host
from cnm.netlab.lab import Lab
from cnm.netlab.model import Container, Place
from cnm.netlab.vantage import Ended, Vantage
from cnm.types import IPInterface


def finder(lab: Lab) -> Callable[[Place], Vantage]:
    """Finds the vantage of a place; asks the engine each time: containers come and go.

    :raises LabError: it is not up.
    """

    def find(place: Place) -> Vantage:
        host = lab[place.host]
        if place.container is None:
            return HostVantage(host)
        spec = host.spec.container(place.container)
        if spec is None:
            raise LabError(f"{place.host} has no container {place.container}")
        return ContainerVantage(host, spec)

    return find


class HostVantage:
    """A host, with its own network, files and commands."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def netns(self) -> str:
        return str(marks.netns_path(self._host.lab, self._host.name))

    def addresses(self) -> Sequence[IPInterface]:
        return addresses(self.netns)

    def text(self, path: str) -> str:
        return _read(Path(f"{self._host.root}{path}"))

    def run(self, command: Sequence[str], timeout_s: float) -> Ended:
        done = self._host.run(*command, check=False, timeout_s=timeout_s)
        return Ended(done.returncode, done.stdout + done.stderr)


class ContainerVantage:
    """A container on a host, as its engine has it now."""

    def __init__(self, host: Host, spec: Container) -> None:
        self._host = host
        self._spec = spec
        self._document = _inspect(host, spec)

    @property
    def netns(self) -> str:
        return namespace(self._host, self._document)

    def addresses(self) -> Sequence[IPInterface]:
        return addresses(self.netns)

    def text(self, path: str) -> str:
        written = {
            "/etc/resolv.conf": self._document.get("ResolvConfPath"),
            "/etc/hosts": self._document.get("HostsPath"),
        }.get(path)
        if written:
            return _read(Path(f"{self._host.root}{written}"))
        return self.run(("cat", path), 10.0).output

    def run(self, command: Sequence[str], timeout_s: float) -> Ended:
        program = "cnm" if self._spec.engine == "cnm" else "docker"
        words = (program, "exec", self._spec.name, *command)
        done = self._host.run(*words, check=False, timeout_s=timeout_s)
        return Ended(done.returncode, done.stdout + done.stderr)


def namespace(host: Host, document: Mapping[str, Any]) -> str:
    """Path of a container's network namespace, from its inspect document.

    :raises LabError: it does not run.
    """
    if not document["State"]["Running"]:
        raise LabError(f"container {document['Name'].removeprefix('/')} does not run")
    key = document["NetworkSettings"].get("SandboxKey") or ""
    if not key or document["HostConfig"].get("NetworkMode") == "host":
        return str(marks.netns_path(host.lab, host.name))
    # Docker's /var/run is a link, which from here would lead into our own /run
    return f"{host.root}{key.replace('/var/run/', '/run/', 1)}"


def addresses(netns: str) -> Sequence[IPInterface]:
    """Global addresses in a namespace, as ``ip -j address`` tells them.

    :raises LabError: the namespace is gone.
    """
    ended = subprocess.run(
        ["nsenter", f"--net={netns}", "ip", "-j", "address", "show", "scope", "global"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise LabError(ended.stderr.strip() or f"{netns} cannot be entered")
    return [
        ip_interface(f"{item['local']}/{item['prefixlen']}")
        for link in json.loads(ended.stdout or "[]")
        for item in link.get("addr_info", ())
        if "local" in item
    ]


def _inspect(host: Host, spec: Container) -> Mapping[str, Any]:
    try:
        with host.api(spec.engine) as api:
            document: Mapping[str, Any] = api.get(f"/containers/{spec.name}/json")
            return document
    except EngineError as error:
        raise LabError(f"{host.name}: {error}") from error
    except OSError as error:
        reason = error.strerror or error
        raise LabError(
            f"{host.name}: its {spec.engine} daemon does not answer: {reason}"
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
