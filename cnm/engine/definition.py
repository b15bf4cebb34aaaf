"""A create request made into a definition: texts checked and made into values.

What clashes with what exists (names, networks, images) is for the core to say, what the
kernel or the runtime cannot do for them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import replace

from cnm.containerapi import (
    DEFAULT_NETWORK,
    HOST_MODE,
    Command,
    ContainerDefinition,
    HostEntry,
    LogLimits,
    NameService,
    UsernsMode,
)
from cnm.core import restart
from cnm.engine import mounts, ports
from cnm.engine.addressing import endpoint_request
from cnm.engine.createbody import REFUSED, ContainerCreateBody, HostConfigBody
from cnm.engine.versions import ApiVersion
from cnm.engine.wire import EndpointBody
from cnm.errors import InvalidParameter, NotSupported
from cnm.runtimeapi import Limits, ResourceLimit, Security
from cnm.types import EndpointRequest, IPAddress

_SEVERAL_ENDPOINTS = ApiVersion(1, 44)
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_CPU_PERIOD_US = 100_000  # the kernel's default
_LOGGING = "failed to initialize logging driver: "
_LOG_DRIVERS = ("", "json-file", "none")
_DISCARDED = "Published ports are discarded when using host network mode"


def definition(body: ContainerCreateBody, version: ApiVersion) -> ContainerDefinition:
    """:raises InvalidParameter: :raises NotSupported: naming what."""
    host = body.host_config
    _refuse_unsupported(body, host)
    mode = _network_mode(host.network_mode)
    wishes = tuple(ports.bindings(host.port_bindings))
    published = (f"{wish.container_port}/{wish.protocol}" for wish in wishes)
    mounted = mounts.files(body)
    config = body.model_dump(by_alias=True, exclude={"host_config", "networking", "healthcheck"})
    return ContainerDefinition(
        image=_image(body.image),
        command=_command(body, host),
        hostname=body.hostname,
        domainname=body.domainname,
        labels=body.labels,
        network_mode=mode,
        endpoints=_endpoints(body, mode, version),
        names=_names(host),
        exposed_ports=tuple(dict.fromkeys((*ports.exposed(body.exposed_ports), *published))),
        ports=wishes if mode != HOST_MODE else (),
        publish_all=host.publish_all_ports and mode != HOST_MODE,
        binds=mounted.binds,
        tmpfs=mounted.tmpfs,
        security=_security(host),
        userns=_userns(host.userns_mode),
        limits=_limits(host),
        resource_limits=tuple(ResourceLimit(i.name, i.soft, i.hard) for i in host.ulimits),
        sysctls=host.sysctls,
        read_only=host.readonly_rootfs,
        init=host.init,
        shm_size_bytes=_shm_size(host.shm_size),
        oom_score_adj=_oom_score(host.oom_score_adj),
        log=_log(host),
        restart=restart.policy(host.restart_policy.name, host.restart_policy.maximum_retry_count),
        auto_remove=host.auto_remove,
        stop_signal=body.stop_signal,
        stop_timeout_s=None if body.stop_timeout is None else float(body.stop_timeout),
        config=config,
        host_config=_shown(host, mode),
    )


def _shown(host: HostConfigBody, mode: str) -> dict[str, object]:
    """What inspect shows: Docker fills in its defaults (docker-py looks for the log's type)."""
    shown = host.model_dump(by_alias=True)
    shown["LogConfig"]["Type"] = host.log_config.type or "json-file"
    shown["RestartPolicy"]["Name"] = host.restart_policy.name or "no"
    return {
        **shown,
        "NetworkMode": mode,
        "ShmSize": _shm_size(host.shm_size),
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Runtime": "cnm",
    }


def warnings(body: ContainerCreateBody) -> list[str]:
    """What is not an error and should be known."""
    discarded = body.host_config.network_mode == HOST_MODE and body.host_config.port_bindings
    return [_DISCARDED] if discarded else []


def _refuse_unsupported(body: ContainerCreateBody, host: HostConfigBody) -> None:
    if body.healthcheck.get("Test") not in (None, [], ["NONE"]):
        raise NotSupported("health checks are not supported yet")
    for name, (flag, harmless) in REFUSED.items():
        if getattr(host, name) not in harmless:
            raise NotSupported(f"{flag} is not supported yet")


def _image(name: str) -> str:
    if not name:
        raise InvalidParameter("no image specified")
    return name


def _network_mode(text: str) -> str:
    return DEFAULT_NETWORK if text in ("", "default") else text


def _command(body: ContainerCreateBody, host: HostConfigBody) -> Command:
    if body.working_dir and not body.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{body.working_dir}' is invalid, it needs to be an absolute "
            "path"
        )
    return Command(
        entrypoint=None if body.entrypoint is None else tuple(body.entrypoint),
        arguments=None if body.cmd is None else tuple(body.cmd),
        environment=tuple(environment(body.env)),
        working_directory=body.working_dir,
        user=body.user,
        groups=tuple(host.group_add),
        tty=body.tty,
        open_stdin=body.open_stdin,
        stdin_once=body.stdin_once,
    )


def environment(items: Iterable[str]) -> Iterable[str]:
    """:raises InvalidParameter: a variable without a name."""
    for item in items:
        if not item.partition("=")[0] or "\0" in item:
            raise InvalidParameter(f"invalid environment variable: {item}")
        yield item


# networks


def _endpoints(
    body: ContainerCreateBody, mode: str, version: ApiVersion
) -> dict[str, EndpointRequest]:
    given = {_network_mode(name): item for name, item in body.networking.endpoints.items()}
    if len(given) > 1 and version < _SEVERAL_ENDPOINTS:
        raise InvalidParameter(
            f"Container cannot be connected to network endpoints: {', '.join(sorted(given))}"
        )
    found = {
        name: endpoint_request(item or EndpointBody(), mac_counts=True)
        for name, item in given.items()
    }
    if body.mac_address:
        only = endpoint_request(
            EndpointBody.model_validate({"MacAddress": body.mac_address}), mac_counts=True
        )
        first = found.get(mode, EndpointRequest())
        if first.mac is not None and first.mac != only.mac:
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for "
                f"the main network, or be left empty: {mode}"
            )
        found[mode] = replace(first, mac=only.mac)
    return found


def _names(host: HostConfigBody) -> NameService:
    return NameService(
        tuple(_address(text, "DNS server") for text in host.dns),
        tuple(_word(text, "DNS search domain") for text in host.dns_search),
        tuple(_word(text, "DNS option") for text in host.dns_options),
        tuple(_host_entry(text) for text in host.extra_hosts),
        tuple(_link(text) for text in host.links),
    )


def _address(text: str, what: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise InvalidParameter(f"invalid {what} address: {text}") from None


def _word(text: str, what: str) -> str:
    """A word of a resolv.conf: another line in it would be another setting."""
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise InvalidParameter(f"invalid {what}: {ascii(text)}")
    return text


def _host_entry(text: str) -> HostEntry:
    name, colon, address = text.partition(":")
    if not name or not colon or any(character.isspace() for character in name):
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if address == "host-gateway":
        return HostEntry(name)
    try:
        return HostEntry(name, ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None


def _link(text: str) -> tuple[str, str]:
    name, colon, alias = text.partition(":")
    name = name.removeprefix("/")
    alias = alias.rpartition("/")[2] if colon else name
    if not name or not alias or any(c.isspace() for c in alias):
        raise InvalidParameter(f"bad format for links: {text}")
    return name, alias


# limits


def _security(host: HostConfigBody) -> Security:
    no_new_privileges, seccomp = False, "default"
    for option in host.security_opt:
        key, _, value = option.replace(":", "=", 1).partition("=")
        match key, value:
            case "no-new-privileges", "" | "true" | "false":
                no_new_privileges = value != "false"
            case "seccomp", "unconfined":
                seccomp = "unconfined"
            case ("seccomp", "builtin") | ("apparmor", "unconfined") | ("label", "disable"):
                continue
            case _:
                raise NotSupported(f"--security-opt {option} is not supported yet")
    return Security(
        tuple(host.cap_add),
        tuple(host.cap_drop),
        host.privileged,
        no_new_privileges,
        "unconfined" if host.privileged else seccomp,
    )


def _userns(text: str) -> UsernsMode:
    """Docker's ``host``; ``private`` is ours, for a daemon that does not remap by itself."""
    try:
        return UsernsMode(text)
    except ValueError:
        raise InvalidParameter(f"invalid USER mode: {text}: use host or private") from None


def _limits(host: HostConfigBody) -> Limits:
    cpus = host.nano_cpus / 1e9
    if host.cpu_quota > 0:
        if host.nano_cpus:
            raise InvalidParameter(
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
            )
        cpus = host.cpu_quota / (host.cpu_period or _CPU_PERIOD_US)
    return Limits(host.memory, host.memory_swap, cpus, max(host.pids_limit, 0))


def _shm_size(size: int) -> int:
    if size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return size or ContainerDefinition("").shm_size_bytes


def _oom_score(score: int) -> int:
    if not -1000 <= score <= 1000:
        raise InvalidParameter(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    return score


def _log(host: HostConfigBody) -> LogLimits:
    options = dict(host.log_config.config)
    if host.log_config.type not in _LOG_DRIVERS:
        raise InvalidParameter(
            f"logger: no log driver named '{host.log_config.type}' is registered"
        )
    if host.log_config.type == "none":
        return LogLimits(enabled=False)
    size, files = options.pop("max-size", ""), options.pop("max-file", "")
    for name in options:
        if name not in ("labels", "labels-regex", "env", "env-regex", "tag", "compress", "mode"):
            raise InvalidParameter(f"unknown log opt '{name}' for json-file log driver")
    return LogLimits(_log_size(size), _log_files(files))


def _log_size(text: str) -> int:
    if text in ("", "-1"):
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise InvalidParameter(f"{_LOGGING}invalid size: '{text}'")
    return int(found[1]) * _FACTORS[found[2].lower()]


def _log_files(text: str) -> int:
    if not text:
        return 1
    if not text.isdigit() or int(text) < 1:
        raise InvalidParameter(f"{_LOGGING}max-file cannot be less than 1")
    return int(text)
