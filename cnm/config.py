"""``daemon.json`` and the flags of ``cnm daemon``, checked, in one frozen value.

The file has Docker's keys where Docker has them. A flag and the file must not name
the same key. What Docker knows and this daemon cannot do yet is refused by name, so
that nobody believes in a setting without effect. A fault is one line that tells the
file, the key and what is allowed.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from cnm import labels
from cnm.errors import InvalidParameter
from cnm.types import IPAddress, IPNetwork

DEFAULT_FILE = Path("/etc/cnm/daemon.json")
DEFAULT_ROOT = Path("/var/lib/cnm")
DEFAULT_EXEC_ROOT = Path("/run/cnm")
UNIX = "unix://"
SOCKET_PATH_MAX = 107  # bytes of sun_path without its zero: unix(7)
PLUGIN_DIR_MAX = SOCKET_PATH_MAX - 32  # the sockets in it have names of their own
DNS_PORT = 53
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's smallest; the largest that a link takes

# Docker's keys that matter to networks, and flags of ours, that nothing stands behind yet
NOT_YET = frozenset(
    (
        *("host-gateway-ip", "host-gateway-ips"),
        *("fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6", "bip6", "ipv6"),
        *("iptables", "ip6tables", "userland-proxy", "userland-proxy-path", "allow-direct-routing"),
        *("tls", "tlscacert", "tlscert", "tlskey", "tlsverify"),
        *("authorization-plugins", "swarm-default-advertise-addr"),
    )
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the daemon is told. ``hosts`` are paths of sockets."""

    config_file: Path = DEFAULT_FILE
    root: Path = DEFAULT_ROOT
    exec_root: Path = DEFAULT_EXEC_ROOT
    hosts: tuple[str, ...] = (f"{DEFAULT_EXEC_ROOT}/cnm.sock",)
    pidfile: Path = DEFAULT_EXEC_ROOT / "cnm.pid"
    log_level: str = "info"
    labels: tuple[str, ...] = ()
    sweep_interval_s: float = 30.0
    address_pools: tuple[tuple[IPNetwork, int], ...] = ()
    bridge: str = "cnm0"
    bip: IPv4Interface | None = None
    mtu: int = 0  # 0: the default route's
    bridge_options: Mapping[str, str] = field(default_factory=dict)
    network_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ip_forward: bool = True
    userns_remap: str = ""
    dns: tuple[IPAddress, ...] = ()  # whom containers ask for names; (): the host's
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_host_listen: tuple[str, int] | None = None
    metrics_address: tuple[str, int] | None = None
    plugin_dir: Path | None = None  # where engines find our drivers

    @property
    def debug(self) -> bool:
        """Whether the log tells everything."""
        return self.log_level == "debug"


def load(flags: Mapping[str, Any], config_file: str | None = None) -> Settings:
    """Flags (by the file's keys, only those that were given) and file together.

    :raises InvalidParameter: one line, with the file or flag, the key and what is allowed.
    """
    path = Path(config_file or DEFAULT_FILE)
    where = f"unable to configure the cnm daemon with file {path}: "
    written = _read(path, required=config_file is not None, where=where)
    from_flags = _check(flags, "invalid flag --")
    from_file = _check(written, where)
    _refuse_both(flags, written, where)
    return _settings(path, from_file.model_copy(update=_given(from_flags)))


# the values of the keys


def _socket_path(text: str) -> str:
    if not text.startswith(UNIX):
        raise ValueError(f'"{text}" is not supported: must be unix://PATH')
    return _absolute(text.removeprefix(UNIX), SOCKET_PATH_MAX)


def _absolute(text: str, longest: int = 4095) -> str:
    if not text.startswith("/") or "\0" in text or len(text.encode()) > longest:
        raise ValueError(f'"{text}": must be an absolute path of at most {longest} bytes')
    return text


def _plugin_dir(text: str) -> str:
    return _absolute(text, PLUGIN_DIR_MAX)


def _bridge_address(value: object) -> IPv4Interface:
    try:
        interface = IPv4Interface(str(value))
    except ValueError:
        interface = IPv4Interface("0.0.0.0/0")
    if interface.ip in {interface.network.network_address, interface.network.broadcast_address}:
        raise ValueError(
            f'"{value}": must be the bridge\'s address and prefix, such as 172.20.0.1/16'
        )
    return interface


def _interface_name(text: str) -> str:
    try:
        return labels.parse_ifname("bridge", text)
    except InvalidParameter as error:
        raise ValueError(str(error)) from None


def _label(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not (key and equals):
        raise ValueError(f'"{text}": must be KEY=VALUE')
    return text


def _host_address(value: object) -> IPv4Address:
    try:
        return IPv4Address(str(value))
    except ValueError:
        raise ValueError(f'"{value}": must be an IPv4 address') from None


def _address(value: object) -> IPAddress:
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(f'"{value}": must be an IP address') from None


def _word(text: str) -> str:
    """What becomes a word of a resolv.conf."""
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError(f'"{text}": must be one word')
    return text


def _name_server(value: object) -> tuple[str, int]:
    return _endpoint(value, DNS_PORT)


def _endpoint(value: object, port: int = 0) -> tuple[str, int]:
    """``IP:PORT``, ``[IPv6]:PORT``; the port may be left out if there is a usual one."""
    text, allowed = str(value), "IP:PORT" if not port else "IP[:PORT]"
    host, number = text, str(port)
    if "]:" in text or text.count(":") == 1:
        host, _, number = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if not 0 < int(number) <= 65535:
            raise ValueError(number)
    except ValueError:
        raise ValueError(f'"{text}": must be {allowed}') from None
    return str(address), int(number)


def _subnet(value: object) -> IPNetwork:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        raise ValueError(f'"{value}": must be a subnet such as 10.10.0.0/16') from None


def _firewall(text: str) -> str:
    if text not in {"", "nftables"}:
        raise ValueError(f'"{text}": must be nftables')
    return text


def pool_flag(text: str) -> dict[str, Any]:
    """``base=10.10.0.0/16,size=24``, as the flag has it, in the file's form.

    :raises ValueError: it has not that form.
    """
    parts = dict(part.strip().partition("=")[::2] for part in text.split(","))
    if set(parts) != {"base", "size"} or not parts["size"].isdigit():
        raise ValueError(f'"{text}": must be base=CIDR,size=N')
    return {"base": parts["base"], "size": int(parts["size"])}


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class _Pool(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    base: Annotated[Any, BeforeValidator(_subnet)]
    size: int

    def pair(self) -> tuple[IPNetwork, int]:
        if not self.base.prefixlen <= self.size <= self.base.max_prefixlen:
            raise ValueError(
                f"size {self.size} of {self.base}: must be from {self.base.prefixlen}"
                f" to {self.base.max_prefixlen}"
            )
        return self.base, self.size


class _Keys(BaseModel):
    """Every key that is understood, with its values checked one by one."""

    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=lambda name: name.replace("_", "-")
    )
    debug: bool = False
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = "info"
    hosts: list[Annotated[str, AfterValidator(_socket_path)]] = []
    data_root: AbsolutePath = str(DEFAULT_ROOT)
    exec_root: AbsolutePath = str(DEFAULT_EXEC_ROOT)
    pidfile: AbsolutePath | None = None
    labels: list[Annotated[str, AfterValidator(_label)]] = []
    sweep_interval: float = Field(default=30.0, ge=1, le=86400)  # seconds
    default_address_pools: list[_Pool] = []
    bridge: Annotated[str, AfterValidator(_interface_name)] = "cnm0"
    bip: Annotated[Any, BeforeValidator(_bridge_address)] = None
    mtu: int = Field(default=0, ge=0, le=MTU_MAX)
    icc: bool = True
    ip: Annotated[Any, BeforeValidator(_host_address)] = None
    ip_masq: bool = True
    ip_forward: bool = True
    dns: list[Annotated[Any, BeforeValidator(_address)]] = []
    dns_search: list[Annotated[str, AfterValidator(_word)]] = []
    dns_opts: list[Annotated[str, AfterValidator(_word)]] = []
    dns_host_listen: Annotated[Any, BeforeValidator(_name_server)] = None
    metrics_addr: Annotated[Any, BeforeValidator(_endpoint)] = None
    plugin_dir: Annotated[str, AfterValidator(_plugin_dir)] | None = None
    default_network_opts: dict[str, dict[str, str]] = {}
    live_restore: bool = True  # containers live on in any case
    userns_remap: str = ""
    firewall_backend: Annotated[str, AfterValidator(_firewall)] = ""


def _read(path: Path, *, required: bool, where: str) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        if not required:
            return {}
        raise InvalidParameter(f"{where}no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InvalidParameter(f"{where}{reason}") from None
    try:
        document = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise InvalidParameter(f"{where}invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter(f"{where}must be a JSON object, such as {{}}")
    return document


def _check(document: Mapping[str, Any], where: str) -> _Keys:
    absent = sorted(NOT_YET.intersection(document))
    if absent:
        raise InvalidParameter(f"{where}{', '.join(absent)}: not supported yet")
    known = {key.replace("_", "-") for key in _Keys.model_fields}
    unknown = sorted(set(document) - known)
    if unknown:
        raise InvalidParameter(
            f"{where}the following directives don't match any configuration option:"
            f" {', '.join(unknown)}"
        )
    try:
        keys = _Keys.model_validate(dict(document))
        for pool in keys.default_address_pools:
            pool.pair()
    except ValidationError as error:
        raise InvalidParameter(where + _fault(error)) from None
    except ValueError as error:
        raise InvalidParameter(f"{where}default-address-pools: {error}") from None
    if 0 < keys.mtu < MTU_MIN:
        raise InvalidParameter(f"{where}mtu: must be 0 or from {MTU_MIN} to {MTU_MAX}")
    return keys


def _fault(error: ValidationError) -> str:
    """The first fault: key and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    reason = reason[:1].lower() + reason[1:]
    given = first["input"]
    shown = f"{json.dumps(given)}: " if isinstance(given, bool | int | float | str) else ""
    if first["type"] == "value_error":
        shown = ""  # its text shows the value already
    return f"{key}: {shown}{reason}"


def _given(keys: _Keys) -> dict[str, Any]:
    return {name: getattr(keys, name) for name in keys.model_fields_set}


def _refuse_both(flags: Mapping[str, Any], written: Mapping[str, Any], where: str) -> None:
    both = [
        f"{key}: (from flag: {_shown(flags[key])}, from file: {_shown(written[key])})"
        for key in sorted(set(flags) & set(written))
    ]
    if both:
        raise InvalidParameter(
            f"{where}the following directives are specified both as a flag and in the"
            f" configuration file: {', '.join(both)}"
        )


def _shown(value: object) -> str:
    """A value as Docker prints it: no quotes, lists in brackets."""
    if isinstance(value, list):
        return f"[{' '.join(_shown(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


def _settings(path: Path, keys: _Keys) -> Settings:
    exec_root = Path(keys.exec_root)
    return Settings(
        config_file=path,
        root=Path(keys.data_root),
        exec_root=exec_root,
        hosts=_unique(keys.hosts) or (str(exec_root / "cnm.sock"),),
        pidfile=Path(keys.pidfile) if keys.pidfile else exec_root / "cnm.pid",
        log_level="debug" if keys.debug else keys.log_level,
        labels=tuple(keys.labels),
        sweep_interval_s=keys.sweep_interval,
        address_pools=tuple(pool.pair() for pool in keys.default_address_pools),
        bridge=keys.bridge,
        bip=keys.bip,
        mtu=keys.mtu,
        bridge_options=_bridge_options(keys),
        network_options=keys.default_network_opts,
        ip_forward=keys.ip_forward,
        userns_remap=keys.userns_remap,
        dns=tuple(keys.dns),
        dns_search=tuple(keys.dns_search),
        dns_options=tuple(keys.dns_opts),
        dns_host_listen=keys.dns_host_listen,
        metrics_address=keys.metrics_addr,
        plugin_dir=Path(keys.plugin_dir) if keys.plugin_dir else None,
    )


def _bridge_options(keys: _Keys) -> dict[str, str]:
    """Options of the default network, as far as they are not Docker's defaults."""
    options = {}
    if not keys.icc:
        options[labels.BRIDGE_ICC] = "false"
    if not keys.ip_masq:
        options[labels.BRIDGE_MASQUERADE] = "false"
    if keys.ip is not None:
        options[labels.BRIDGE_HOST_BINDING_IPV4] = str(keys.ip)
    return options


def _unique(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
