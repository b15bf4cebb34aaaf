"""The request that makes a container, from the flags of ``run`` and ``create``.

It is what Docker's command 28 sends for the same words, the fields included that we
have no flag for: whoever records requests sees no difference.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from cnm.cli import attachments, mounts, publish, quantities, variables
from cnm.cli.command import Call
from cnm.cli.errors import CommandError
from cnm.cli.terminal import size

_SECCOMP_NAMES = ("builtin", "unconfined")
_ALL = "ALL"
_MAPPED = "::ffff:"

Document = dict[str, object]

# What Docker's command sends although none of our flags speaks of it.
_UNUSED_HOST: Document = {
    "VolumeDriver": "",
    "VolumesFrom": None,
    "CgroupnsMode": "",
    "IpcMode": "",
    "Cgroup": "",
    "PidMode": "",
    "UTSMode": "",
    "Isolation": "",
    "CpuShares": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwappiness": -1,
    "OomKillDisable": False,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}


def creation(call: Call) -> Document:
    """The body of ``POST /containers/create``.

    :raises CommandError: for flags that cannot be read or contradict one another.
    """
    if not call.arguments[0]:
        raise CommandError("invalid reference format")
    if call.string("mac-address"):
        attachments.check_mac(call.string("mac-address"))
    binds, volumes = mounts.split_volumes(call.strings("volume"))
    bindings = publish.published(call.strings("publish"))
    body = _config(call, volumes)
    ports = dict.fromkeys([*bindings, *publish.exposed(call.strings("expose"))])
    if ports:
        body["ExposedPorts"] = {port: {} for port in ports}
    body["HostConfig"] = _UNUSED_HOST | _host_config(call, binds, bindings) | _resources(call)
    body["NetworkingConfig"] = {"EndpointsConfig": attachments.endpoints(call)}
    return body


def _config(call: Call, volumes: Mapping[str, object]) -> Document:
    image, *arguments = call.arguments
    named = call.strings("attach")
    streams = {value.lower() for value in named} if named else {"stdout", "stderr"}
    interactive = call.switch("interactive")
    attached = not call.switch("detach")
    stdin = "stdin" in streams or interactive
    body: Document = {
        "Hostname": call.string("hostname"),
        "Domainname": call.string("domainname"),
        "User": call.string("user"),
        "AttachStdin": attached and stdin,
        "AttachStdout": attached and "stdout" in streams,
        "AttachStderr": attached and "stderr" in streams,
        "Tty": call.switch("tty"),
        "OpenStdin": interactive,
        "StdinOnce": attached and interactive,
        "Env": variables.environment(call),
        "Cmd": arguments or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": call.string("workdir"),
        "Entrypoint": [call.string("entrypoint")] if call.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": variables.labels(call),
    }
    if call.string("stop-signal"):
        body["StopSignal"] = call.string("stop-signal")
    if call.given("stop-timeout"):
        body["StopTimeout"] = call.integer("stop-timeout")
    return body


def _host_config(call: Call, binds: list[str], bindings: publish.Bindings) -> Document:
    policy = _restart_policy(call)
    options = _log_options(call)
    body: Document = {
        "Binds": binds or None,
        "ContainerIDFile": call.string("cidfile"),
        "LogConfig": {"Type": call.string("log-driver"), "Config": options},
        "NetworkMode": attachments.mode(call),
        "PortBindings": bindings,
        "RestartPolicy": policy,
        "AutoRemove": call.switch("rm"),
        "ConsoleSize": list(size()),
        "CapAdd": _capabilities(call.strings("cap-add")),
        "CapDrop": _capabilities(call.strings("cap-drop")),
        "Dns": [_address(value) for value in call.strings("dns")],
        "DnsOptions": call.strings("dns-option"),
        "DnsSearch": [_domain(value) for value in call.strings("dns-search")],
        "ExtraHosts": [_host(value) for value in call.strings("add-host")] or None,
        "GroupAdd": call.strings("group-add") or None,
        "Links": call.strings("link") or None,
        "OomScoreAdj": call.integer("oom-score-adj"),
        "Privileged": call.switch("privileged"),
        "PublishAllPorts": call.switch("publish-all"),
        "ReadonlyRootfs": call.switch("read-only"),
        "UsernsMode": _userns(call.string("userns")),
    }
    security = [_security(value) for value in call.strings("security-opt")]
    body["SecurityOpt"] = security or None
    if call.strings("mount"):
        body["Mounts"] = [mounts.mount(value) for value in call.strings("mount")]
    if call.strings("tmpfs"):
        pairs = (value.partition(":") for value in call.strings("tmpfs"))
        body["Tmpfs"] = {path: options for path, _, options in pairs}
    if call.strings("sysctl"):
        body["Sysctls"] = call.mapping("sysctl")
    if call.given("init"):
        body["Init"] = call.switch("init")
    return body


def _resources(call: Call) -> Document:
    swap = call.string("memory-swap", "0")
    limits = {str(limit["Name"]): limit for limit in map(quantities.limit, call.strings("ulimit"))}
    return {
        "ShmSize": quantities.size_in_bytes(call.string("shm-size", "0")),
        "Memory": quantities.size_in_bytes(call.string("memory", "0")),
        "MemorySwap": -1 if swap == "-1" else quantities.size_in_bytes(swap),
        "NanoCpus": quantities.nano_cpus(call.string("cpus")) if call.given("cpus") else 0,
        "PidsLimit": call.integer("pids-limit"),
        "Ulimits": [limits[name] for name in sorted(limits)],
    }


def _userns(text: str) -> str:
    if text not in ("", "host", "private"):
        raise CommandError("--userns: invalid USER mode")
    return text


def _restart_policy(call: Call) -> Document:
    text = call.string("restart", "no")
    name, colon, count = text.partition(":")
    if colon and not name:
        raise CommandError("invalid restart policy format: no policy provided before colon")
    try:
        retries = int(count) if count else 0
    except ValueError:
        raise CommandError(
            "invalid restart policy format: maximum retry count must be an integer"
        ) from None
    if call.switch("rm") and name not in ("", "no"):
        raise CommandError("conflicting options: cannot specify both --restart and --rm")
    return {"Name": name, "MaximumRetryCount": retries}


def _log_options(call: Call) -> dict[str, str]:
    driver = call.string("log-driver")
    if driver == "none" and call.strings("log-opt"):
        raise CommandError(f"invalid logging opts for driver {driver}")
    return call.mapping("log-opt")


def _capabilities(names: list[str]) -> list[str] | None:
    """``net_raw`` as ``CAP_NET_RAW``; sorted, each once."""
    upper = (name.upper() for name in names)
    whole = {name if name == _ALL else f"CAP_{name.removeprefix('CAP_')}" for name in upper}
    return sorted(whole) or None


def _security(value: str) -> str:
    key, separator, text = value.partition("=")
    if key == "no-new-privileges":
        return value
    if not separator:
        key, separator, text = value.partition(":")
    if not text:
        raise CommandError(f'Invalid --security-opt: "{value}"')
    if key == "seccomp" and text not in _SECCOMP_NAMES:
        return f"seccomp={_profile(text)}"
    return value


def _profile(path: str) -> str:
    """A seccomp profile's content on one line."""
    import json

    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"), ensure_ascii=False)
    except OSError as error:
        problem = variables.unreadable(path, error)
        raise CommandError(f"opening seccomp profile ({path}) failed: {problem}") from None
    except ValueError as error:
        raise CommandError(
            f"compacting json for seccomp profile ({path}) failed: {error}"
        ) from None


def _address(text: str) -> str:
    """An address in its canonical form."""
    text = text.strip()
    if ":" not in text:
        return text
    canonical = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    mapped = canonical.startswith(_MAPPED) and "." in canonical
    return canonical.removeprefix(_MAPPED) if mapped else canonical


def _domain(text: str) -> str:
    text = text.strip(" ")
    return text if text == "." else text.removesuffix(".")


def _host(value: str) -> str:
    """``NAME=ADDRESS`` or ``NAME:ADDRESS`` with a colon and without brackets."""
    name, equals, address = value.partition("=")
    if not equals:
        name, _, address = value.partition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return f"{name}:{address}"


def warnings(body: Document) -> list[str]:
    """What is likely not meant, though it can be had."""
    host = body["HostConfig"]
    servers = host["Dns"] if isinstance(host, dict) else ()
    return [
        f"Localhost DNS ({server}) may fail in containers."
        for server in servers
        if server.startswith("127.") or server == "::1"
    ][:1]
