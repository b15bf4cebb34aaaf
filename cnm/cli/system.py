"""``cnm version|info``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import cnm
from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError
from cnm.cli.format import INSPECT_FORMAT_HELP
from cnm.cli.template import Template
from cnm.cli.values import Struct

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Line of `cnm info`: its title and the path of its value.
_INFO = (
    ("Server Version", "ServerVersion"),
    ("ID", "ID"),
    ("Name", "Name"),
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Stopped", "ContainersStopped"),
    ("Network Drivers", "Plugins.Network"),
    ("Firewall", "FirewallBackend.Driver"),
    ("Cluster", "Swarm.LocalNodeState"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Root Dir", "DockerRootDir"),
    ("Debug Mode", "Debug"),
)


def version(call: Call) -> int:
    """Prints the client's version, then the daemon's; fails after the first without one."""
    client = {
        "Version": cnm.__version__,
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
    }
    template = _template(call)
    server: object = None
    failure: CommandError | None = None
    try:
        server = Client(call.host).get("/version")
    except CommandError as error:
        failure = error
    if template:
        sys.stdout.write(template.render(structs({"Client": client, "Server": server})) + "\n")
    else:
        sys.stdout.write(_version_text(client, server))
    if failure:
        raise failure
    return 0


def _version_text(client: Mapping[str, object], server: object) -> str:
    lines = ["Client:", *_facts(client, (("Version", "Version"),))]
    if isinstance(server, dict):
        facts = (
            ("Version", "Version"),
            ("API version", "ApiVersion"),
            ("Minimum API version", "MinAPIVersion"),
            ("Kernel version", "KernelVersion"),
        )
        lines += ["", "Server:", *_facts(server, facts)]
    return "\n".join(lines) + "\n"


def _facts(document: Mapping[str, object], facts: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [f" {title + ':':<21}{document.get(key, '')}" for title, key in facts]
    return [*lines, f" {'OS/Arch:':<21}{document.get('Os', '')}/{document.get('Arch', '')}"]


def info(call: Call) -> int:
    """Prints the daemon's view of itself."""
    template = _template(call)
    document = Client(call.host).get("/info")
    if template:
        sys.stdout.write(template.render(structs(document)) + "\n")
        return 0
    for title, path in _INFO:
        value = _value(document, path)
        if value is not None:
            sys.stdout.write(f"{title}: {value}\n")
    return 0


def _value(document: object, path: str) -> str | None:
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    if document is None or document == "":
        return None
    if isinstance(document, list):
        return " ".join(str(item) for item in document)
    return str(document).lower() if isinstance(document, bool) else str(document)


def structs(value: object) -> object:
    """A document all of whose objects are structs: fields in order, unknown ones refused."""
    if isinstance(value, dict):
        return Struct({key: structs(item) for key, item in value.items()})
    return [structs(item) for item in value] if isinstance(value, list) else value


def _template(call: Call) -> Template | None:
    form = call.string("format")
    if form == "json":
        form = "{{json .}}"
    return Template(form) if form else None


_FORMAT = Flag("format", "string", INSPECT_FORMAT_HELP, short="f")

VERSION = Command(
    version,
    "Show the version of the command and the daemon",
    usage="[OPTIONS]",
    flags=(_FORMAT,),
    examples=("version", "version --format '{{.Server.Version}}'"),
)
INFO = Command(
    info,
    "Display what the daemon knows of itself and the host",
    usage="[OPTIONS]",
    flags=(_FORMAT,),
    examples=("info", "info --format '{{json .Plugins}}'"),
)
