"""``cnm inspect``: containers, networks and images."""

from __future__ import annotations

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError, DaemonError
from cnm.cli.format import INSPECT_FORMAT_HELP
from cnm.cli.image import image_path
from cnm.cli.inspection import Found
from cnm.cli.inspection import inspect as print_documents
from cnm.cli.shape import CONTAINER, IMAGE, NETWORK

_NOT_FOUND = 404
_TYPES = ("container", "network", "image")


def inspect(call: Call) -> int:
    """Prints whole documents of containers, networks and images, the first of this name.

    Networks come before images, not as in Docker: the image ``host`` is everywhere here,
    and who asks for ``host`` means the network.
    """
    kind = call.string("type")
    if kind and kind not in _TYPES:
        known = ", ".join(f'"{name}"' for name in _TYPES)
        raise CommandError(f'unknown type: "{kind}": must be one of {known}')
    client = Client(call.host)

    def container(name: str) -> Found:
        return client.get(f"/containers/{segment(name, 'container')}/json"), CONTAINER

    def network(name: str) -> Found:
        return client.get(f"/networks/{segment(name, 'network')}"), NETWORK

    def image(name: str) -> Found:
        return client.get(f"/images/{image_path(name)}/json"), IMAGE

    def either(name: str) -> Found:
        for fetch in (container, network, image):
            try:
                return fetch(name)
            except DaemonError as error:
                if error.code != _NOT_FOUND:
                    raise
        raise CommandError(f"Error: No such object: {name}")

    fetch = {"container": container, "network": network, "image": image}.get(kind, either)
    return print_documents(call.arguments, fetch, call.string("format"))


INSPECT = Command(
    inspect,
    "Display detailed information on containers, networks and images",
    usage="[OPTIONS] NAME|ID [NAME|ID...]",
    flags=(
        Flag("format", "string", INSPECT_FORMAT_HELP, short="f"),
        Flag("type", "string", "Only objects of this type: container, network or image"),
    ),
    minimum=1,
    maximum=None,
    names=("objects",),
    examples=(
        "inspect c1",
        "inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' c1",
    ),
)
