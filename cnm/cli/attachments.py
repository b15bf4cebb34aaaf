"""``--network`` and its companions: the networks of a new container as the API has them."""

from __future__ import annotations

from collections.abc import Callable

from cnm.cli.command import Call, comma_separated
from cnm.cli.errors import CommandError

DEFAULT = "default"
_MODES = ("default", "bridge", "host", "none")
_MAC_LENGTHS = (6, 8, 20)  # EUI-48, EUI-64, IP over InfiniBand

Attachment = dict[str, object]


def mode(call: Call) -> str:
    """The container's network mode: the first network's name."""
    values = call.strings("network")
    return _parse(values[0])[0] if values else DEFAULT


def network_problem(value: str) -> str:
    """What is wrong with ``--network value``."""
    try:
        _parse(value)
    except CommandError as error:
        return str(error)
    return ""


def endpoints(call: Call) -> dict[str, Attachment]:
    """The endpoint of each network. ``--ip`` and the like are of the first.

    :raises CommandError: for what contradicts itself or cannot be had.
    """
    values = call.strings("network") or [DEFAULT]
    found: dict[str, Attachment] = {}
    for place, value in enumerate(values):
        network, endpoint = _parse(value)
        if place == 0:
            _apply_flags(call, network, endpoint)
        _check(network, endpoint)
        if network in found:
            raise CommandError(f'network "{network}" is specified multiple times')
        found[network] = endpoint
    own = [name for name in found if user_defined(name)]
    if own and len(own) < len(found):
        raise CommandError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    if call.given("network") and len(found) == 1 and found[network] == _blank():
        return {}  # as Docker: nothing is said of a network that is only named
    return found


def user_defined(network: str) -> bool:
    """Whether a network mode is a network that somebody made."""
    return network not in _MODES and network.partition(":")[0] != "container"


def check_mac(text: str) -> None:
    """Refuses what is no hardware address.

    :raises CommandError: with Docker's words.
    """
    separator = next((letter for letter in ":-." if letter in text), "")
    parts = text.split(separator) if separator else []
    digits = 4 if separator == "." else 2
    whole = all(len(part) == digits and _is_hex(part) for part in parts)
    if not whole or len(parts) * digits // 2 not in _MAC_LENGTHS:
        raise CommandError(f"{text} is not a valid mac address")


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def _blank() -> Attachment:
    """An endpoint of which nothing is asked, with the fields that Docker's command sends."""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def _parse(value: str) -> tuple[str, Attachment]:
    """``NAME`` or ``name=NAME,alias=A,ip=…``: the network and what is asked of the endpoint."""
    endpoint = _blank()
    if not _has_fields(value):
        return value, endpoint
    network = ""
    for field in comma_separated(value):
        key, equals, text = field.lower().partition("=")
        key, text = key.strip(), text.strip()
        if not equals or not key:
            raise CommandError(f"invalid field {field}")
        if key == "name":
            network = text
        elif key in _FIELDS:
            _FIELDS[key](endpoint, text)
        else:
            raise CommandError(f"invalid field key {key}")
    if not network:
        raise CommandError("network name/id is not specified")
    return network, endpoint


def _has_fields(value: str) -> bool:
    """Whether some ``=`` stands between two letters of a word, as Docker's pattern asks."""
    places = (place for place, letter in enumerate(value) if letter == "=" and place)
    return any(_in_word(value[place - 1]) and _in_word(value[place + 1 :][:1]) for place in places)


def _in_word(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter == "_")


def _add_alias(endpoint: Attachment, text: str) -> None:
    _append(endpoint, "Aliases", text)


def _append(values: Attachment, key: str, text: str) -> None:
    present = values.get(key)
    values[key] = [*(present if isinstance(present, list) else ()), text]


def _addresses(endpoint: Attachment) -> Attachment:
    present = endpoint["IPAMConfig"]
    addresses = present if isinstance(present, dict) else {}
    endpoint["IPAMConfig"] = addresses
    return addresses


def _set_ipv4(endpoint: Attachment, text: str) -> None:
    _addresses(endpoint)["IPv4Address"] = text


def _set_ipv6(endpoint: Attachment, text: str) -> None:
    _addresses(endpoint)["IPv6Address"] = text


def _add_link_local(endpoint: Attachment, text: str) -> None:
    _append(_addresses(endpoint), "LinkLocalIPs", text)


def _set_mac(endpoint: Attachment, text: str) -> None:
    endpoint["MacAddress"] = text


def _add_driver_option(endpoint: Attachment, text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise CommandError("invalid key value pair format in driver options")
    present = endpoint["DriverOpts"]
    options = present if isinstance(present, dict) else {}
    endpoint["DriverOpts"] = {**options, key.strip(): value.strip()}


def _set_priority(endpoint: Attachment, text: str) -> None:
    try:
        endpoint["GwPriority"] = int(text)
    except ValueError:
        raise CommandError(f"invalid gw-priority ({text}): invalid syntax") from None


_FIELDS: dict[str, Callable[[Attachment, str], None]] = {
    "alias": _add_alias,
    "ip": _set_ipv4,
    "ip6": _set_ipv6,
    "mac-address": _set_mac,
    "link-local-ip": _add_link_local,
    "driver-opt": _add_driver_option,
    "gw-priority": _set_priority,
}


def _apply_flags(call: Call, network: str, endpoint: Attachment) -> None:
    """What the flags beside ``--network`` say of the first endpoint."""
    addresses = endpoint["IPAMConfig"] or {}
    assert isinstance(addresses, dict)
    for flag, present, what, take in (
        ("network-alias", endpoint["Aliases"], "alias", _add_alias),
        ("ip", addresses.get("IPv4Address"), "IPv4 address", _set_ipv4),
        ("ip6", addresses.get("IPv6Address"), "IPv6 address", _set_ipv6),
        ("mac-address", endpoint["MacAddress"], "MAC address", _set_mac),
        (
            "link-local-ip",
            addresses.get("LinkLocalIPs"),
            "link-local IP addresses",
            _add_link_local,
        ),
    ):
        values = [value for value in call.strings(flag) if value]
        if present and values:
            raise CommandError(
                f"conflicting options: cannot specify both --{flag} and per-network {what}"
            )
        for value in values:
            take(endpoint, value)
    if user_defined(network) and call.strings("link"):
        # On the default bridge a link is the container's; elsewhere it is the endpoint's.
        endpoint["Links"] = call.strings("link")


def _check(network: str, endpoint: Attachment) -> None:
    if not network.strip():
        raise CommandError("no name set for network")
    if endpoint["Aliases"] and not user_defined(network):
        raise CommandError("network-scoped aliases are only supported for user-defined networks")
    if endpoint["MacAddress"]:
        check_mac(str(endpoint["MacAddress"]))
