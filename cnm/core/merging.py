"""What a container runs: the user's wishes over the image's configuration. Pure.

Source of the rules: Docker's documentation of ``ENTRYPOINT`` and ``CMD``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cnm.containerapi import Command, ContainerDefinition
from cnm.errors import InvalidParameter
from cnm.imageapi import ImageConfig
from cnm.runtimeapi import ProcessSpec
from cnm.types import PortBinding


def merged(definition: ContainerDefinition, image: ImageConfig) -> ContainerDefinition:
    """The definition with all that the image says and the user did not.

    :raises InvalidParameter: there is no command at all.
    """
    command = _command(definition.command, image)
    ports = dict.fromkeys((*image.exposed_ports, *definition.exposed_ports))
    labels = {**image.labels, **definition.labels}
    config = {
        **definition.config,
        "Cmd": list(command.arguments or ()) or None,
        "Entrypoint": list(command.entrypoint or ()) or None,
        "Env": list(command.environment),
        "WorkingDir": command.working_directory,
        "User": command.user,
        "Labels": labels,
        "Volumes": definition.config.get("Volumes") or dict.fromkeys(image.volumes, {}) or None,
    }
    if ports:
        config["ExposedPorts"] = {port: {} for port in ports}
    return replace(
        definition,
        command=command,
        exposed_ports=tuple(ports),
        ports=_published(definition, ports),
        labels=labels,
        stop_signal=definition.stop_signal or image.stop_signal,
        config=config,
    )


def _published(definition: ContainerDefinition, exposed: Iterable[str]) -> tuple[PortBinding, ...]:
    """What is to be published; with ``-P`` also what is exposed and was given no port."""
    if not definition.publish_all:
        return definition.ports
    given = {f"{port.container_port}/{port.protocol}" for port in definition.ports}
    pairs = (key.partition("/") for key in exposed if key not in given)
    return (
        *definition.ports,
        *(PortBinding(protocol, int(number)) for number, _, protocol in pairs),
    )


def process(command: Command, more_environment: Iterable[str] = ()) -> ProcessSpec:
    """A merged command as the runtime takes it. What links bring gives way to what was asked."""
    return ProcessSpec(
        (*(command.entrypoint or ()), *(command.arguments or ())),
        (*more_environment, *command.environment),
        command.working_directory or "/",
        command.user,
        command.groups,
        command.tty,
        command.open_stdin,
        command.stdin_once,
    )


def _command(wish: Command, image: ImageConfig) -> Command:
    arguments, entrypoint = wish.arguments, wish.entrypoint
    if not entrypoint and not arguments:
        arguments = image.cmd
    if entrypoint is None:
        entrypoint = image.entrypoint
    if entrypoint == ("",):  # `--entrypoint ""`: none, the image's neither
        entrypoint = ()
    if not entrypoint and not arguments:
        raise InvalidParameter("no command specified")
    return replace(
        wish,
        entrypoint=entrypoint,
        arguments=arguments or (),
        environment=_environment(image.env, wish.environment),
        working_directory=wish.working_directory or image.working_dir,
        user=wish.user or image.user,
    )


def _environment(image: Iterable[str], user: Iterable[str]) -> tuple[str, ...]:
    """Each name once; the user's value counts. A bare name takes the variable away."""
    found: dict[str, str] = {}
    for item in (*image, *user):
        found[item.partition("=")[0]] = item
    return tuple(found.values())
