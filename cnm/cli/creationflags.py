"""The flags of ``run`` and ``create``, and what is wrong with their values."""

from __future__ import annotations

from cnm.cli.attachments import network_problem
from cnm.cli.command import Flag
from cnm.cli.connection import link_problem
from cnm.cli.mounts import mount_problem
from cnm.cli.publish import is_address
from cnm.cli.quantities import cpus_problem, limit_problem, size_problem, swap_problem
from cnm.cli.variables import label_problem, variable_problem

_HOST_GATEWAY = "host-gateway"
_STREAMS = ("stdin", "stdout", "stderr")
_DOMAIN_LIMIT = 255
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")
) | {"kernel.shm_rmid_forced"}


def _address_problem(value: str) -> str:
    correct = is_address(value.strip())
    return "" if correct else f"IP address is not correctly formatted: {value}"


def _domain_problem(value: str) -> str:
    text = value.strip(" ")
    if text == ".":
        return ""
    labels = text.removesuffix(".").split(".")
    fits = len(text) < _DOMAIN_LIMIT and all(_is_label(label) for label in labels)
    letters = any(letter.isascii() and letter.isalpha() for letter in text)
    return "" if fits and letters else f"{text} is not a valid domain"


def _is_label(text: str) -> bool:
    inner = text.replace("-", "")
    return inner.isascii() and inner.isalnum() and text[0] != "-" and text[-1] != "-"


def _host_problem(value: str) -> str:
    name, separator, address = value.partition("=")
    if not separator:
        name, separator, address = value.partition(":")
    if not separator or not name or ":" in name:
        return f'bad format for add-host: "{value}"'
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address == _HOST_GATEWAY or is_address(address):
        return ""
    return f'invalid IP address in add-host: "{address}"'


def _sysctl_problem(value: str) -> str:
    key, equals, _ = value.partition("=")
    known = key in _SYSCTLS or key.startswith(_SYSCTL_PREFIXES)
    return "" if equals and known else f"sysctl '{value}' is not allowed"


def _stream_problem(value: str) -> str:
    known = value.lower() in _STREAMS
    return "" if known else "valid streams are STDIN, STDOUT and STDERR"


DETACH_KEYS = Flag("detach-keys", "string", "Keys that detach; ctrl-p,ctrl-q if not given")
ENVIRONMENT = (
    Flag("env", "list", "Environment variable", short="e", check=variable_problem),
    Flag("env-file", "list", "Read environment variables from a file"),
)
PROCESS = (
    Flag("interactive", "bool", "Keep standard input open", short="i"),
    Flag("privileged", "bool", "All capabilities, no seccomp filter"),
    Flag("tty", "bool", "Give it a terminal", short="t"),
    Flag("user", "string", "User, name|uid[:group|gid]", short="u"),
    Flag("workdir", "string", "Working directory", short="w"),
)
_FILES = (
    Flag("mount", "mount", "Mount, type=bind,source=…,target=… or tmpfs", check=mount_problem),
    Flag("read-only", "bool", "Let it write nothing but its mounts"),
    Flag("shm-size", "bytes", "Size of /dev/shm", check=size_problem),
    Flag("tmpfs", "list", "Mount a tmpfs, PATH[:OPTIONS]"),
    Flag("volume", "list", "Bind mount, SOURCE:TARGET[:ro]", short="v"),
)
_NETWORK = (
    Flag("add-host", "list", "Line in /etc/hosts, NAME:ADDRESS", check=_host_problem),
    Flag("dns", "list", "Name server", check=_address_problem),
    Flag("dns-opt", "list", "", same_as="dns-option"),
    Flag("dns-option", "list", "Option of resolv.conf"),
    Flag("dns-search", "list", "Search domain", check=_domain_problem),
    Flag("domainname", "string", "NIS domain name"),
    Flag("expose", "list", "Port, or range of ports, that it serves"),
    Flag("hostname", "string", "Host name", short="h"),
    Flag("ip", "string", "IPv4 address, as 172.30.100.104"),
    Flag("ip6", "string", "IPv6 address, as 2001:db8::33"),
    Flag("link", "list", "Link to a container, NAME[:ALIAS]", check=link_problem),
    Flag("link-local-ip", "list", "Link-local address"),
    Flag("mac-address", "string", "Hardware address, as 92:d0:c6:0a:29:33"),
    Flag("net", "network", "", check=network_problem, same_as="network"),
    Flag("net-alias", "list", "", same_as="network-alias"),
    Flag(
        "network",
        "network",
        "Network: NAME, name=NAME,alias=…,ip=…, host, none or container:NAME",
        check=network_problem,
        names="networks",
    ),
    Flag("network-alias", "list", "Further name on its network"),
    Flag("publish", "list", "Publish a port, [[ADDRESS:]PORT:]PORT[/PROTOCOL]", short="p"),
    Flag("publish-all", "bool", "Publish all exposed ports on any ports of the host", short="P"),
)
_LIMITS = (
    Flag("cap-add", "list", "Add a capability"),
    Flag("cap-drop", "list", "Take a capability away"),
    Flag("cpus", "decimal", "Number of processors", check=cpus_problem),
    Flag("group-add", "list", "Further group"),
    Flag("memory", "bytes", "Memory limit", short="m", check=size_problem),
    Flag("memory-swap", "bytes", "Memory and swap, -1 for any amount", check=swap_problem),
    Flag("oom-score-adj", "int", "What the kernel kills first, -1000 to 1000", default="0"),
    Flag("pids-limit", "int", "Number of processes, -1 for any number", default="0"),
    Flag("security-opt", "list", "Security option"),
    Flag("sysctl", "map", "Kernel setting of its namespaces", check=_sysctl_problem),
    Flag("ulimit", "ulimit", "Limit of each process, NAME=SOFT[:HARD]", check=limit_problem),
    Flag("userns", "string", "User namespace: private, or the host's (host)"),
)
_LIFE = (
    Flag("attach", "list", "Attach to stdin, stdout or stderr", short="a", check=_stream_problem),
    Flag("cidfile", "string", "Write the id to this file"),
    Flag("entrypoint", "string", "Run this instead of the image's entry point"),
    Flag("init", "bool", "Run an init that reaps processes"),
    Flag("label", "list", "Label, key or key=value", short="l", check=label_problem),
    Flag("label-file", "list", "Read labels from a file"),
    Flag("log-driver", "string", "json-file or none"),
    Flag("log-opt", "list", "Option of the log: max-size, max-file"),
    Flag("name", "string", "Name; one is made up if not given"),
    Flag(
        "restart",
        "string",
        "When to start it again: no, always, unless-stopped, on-failure[:TIMES]",
        default="no",
    ),
    Flag("rm", "bool", "Remove it when it ends"),
    Flag("stop-signal", "string", "Signal that stops it"),
    Flag("stop-timeout", "int", "Seconds to wait before it is killed"),
)
CREATION = (*ENVIRONMENT, *PROCESS, *_FILES, *_NETWORK, *_LIMITS, *_LIFE)
