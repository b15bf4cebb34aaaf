"""Well-known option keys and their parsers: each key stands here once.

Keys are Docker's (``com.docker.network.*``), so that what users have works as it is.
"""

from __future__ import annotations

from ipaddress import ip_address

from cnm.errors import InvalidParameter
from cnm.types import IPAddress

PREFIX = "com.docker.network"

# wire keys of the driver protocol
GENERIC = f"{PREFIX}.generic"
ENABLE_IPV4 = f"{PREFIX}.enable_ipv4"
ENABLE_IPV6 = f"{PREFIX}.enable_ipv6"
INTERNAL = f"{PREFIX}.internal"

# any driver
MTU = f"{PREFIX}.driver.mtu"
HOST_IPV4 = f"{PREFIX}.host_ipv4"
HOST_IPV6 = f"{PREFIX}.host_ipv6"
CONTAINER_IFACE_PREFIX = f"{PREFIX}.container_iface_prefix"
ADVERTISE_NMSGS = f"{PREFIX}.advertise_addr_nmsgs"
ADVERTISE_INTERVAL_MS = f"{PREFIX}.advertise_addr_ms"

# endpoints
ENDPOINT_IFNAME = f"{PREFIX}.endpoint.ifname"
ENDPOINT_SYSCTLS = f"{PREFIX}.endpoint.sysctls"
ENDPOINT_MAC = f"{PREFIX}.endpoint.macaddress"
ENDPOINT_EXPOSED_PORTS = f"{PREFIX}.endpoint.exposedports"
ENDPOINT_DNS_SERVERS = f"{PREFIX}.endpoint.dnsservers"
PORT_MAP = f"{PREFIX}.portmap"

# bridge driver
BRIDGE_NAME = f"{PREFIX}.bridge.name"
BRIDGE_DEFAULT = f"{PREFIX}.bridge.default_bridge"
BRIDGE_ICC = f"{PREFIX}.bridge.enable_icc"
BRIDGE_MASQUERADE = f"{PREFIX}.bridge.enable_ip_masquerade"
BRIDGE_HOST_BINDING_IPV4 = f"{PREFIX}.bridge.host_binding_ipv4"
BRIDGE_INHIBIT_IPV4 = f"{PREFIX}.bridge.inhibit_ipv4"
BRIDGE_GATEWAY_MODE_IPV4 = f"{PREFIX}.bridge.gateway_mode_ipv4"
BRIDGE_GATEWAY_MODE_IPV6 = f"{PREFIX}.bridge.gateway_mode_ipv6"
BRIDGE_TRUSTED_HOST_INTERFACES = f"{PREFIX}.bridge.trusted_host_interfaces"

# macvlan and ipvlan drivers, Docker's short keys
PARENT = "parent"
MACVLAN_MODE = "macvlan_mode"
IPVLAN_MODE = "ipvlan_mode"
IPVLAN_FLAG = "ipvlan_flag"
HOST_ACCESS = "host_access"  # of ours: the host and its macvlan containers reach each other

# of ours, any driver
NETWORK_DNS = "com.cnm.network.dns"  # whom the resolver asks for a network's containers
CONFLICT_PROBE = "com.cnm.network.conflict_probe"  # "false": hand addresses out unasked
MTU_MIN = 68  # RFC 791
MTU_MIN_IPV6 = 1280  # RFC 8200, section 5
MTU_MAX = 65535

# of ours, on what CNI has made: the CNI network that an endpoint is an attachment of; sandboxes
# that were adopted for attachments, and are given back with the last
ATTACHMENT = "com.cnm.attachment.network"
ATTACHED = "com.cnm.attached"

IFNAME_MAX = 15  # IFNAMSIZ is 16 with the terminating zero

_NO_IFNAMES = {"", ".", "..", "all", "default"}
_TRUE = {"1", "t", "true", "T", "TRUE", "True"}
_FALSE = {"0", "f", "false", "F", "FALSE", "False"}


def parse_bool(key: str, text: str) -> bool:
    """Go's ``strconv.ParseBool``, as Docker reads its options. Empty means true, as Docker's.

    :raises InvalidParameter: naming the key.
    """
    if text in _TRUE or text == "":
        return True
    if text in _FALSE:
        return False
    raise InvalidParameter(f'invalid value "{text}" for option {key}: must be true or false')


def parse_int(key: str, text: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``.

    :raises InvalidParameter: naming the key and the range.
    """
    try:
        value = int(text, 10)
    except ValueError:
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be a number'
        ) from None
    if not low <= value <= high:
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be from {low} to {high}'
        )
    return value


def parse_dns_servers(key: str, text: str) -> tuple[IPAddress, ...]:
    """Addresses with commas between; none in an empty text.

    :raises InvalidParameter: naming the key.
    """
    try:
        return tuple(ip_address(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be IP addresses with commas between'
        ) from None


def parse_ifname(key: str, text: str) -> str:
    """A Linux interface name: 1 to 15 bytes that can be printed, no blank, ``/`` or ``:``.

    The kernel takes a ``%`` for a place to put a number in, so that the link would have another
    name than we know; ``all`` and ``default`` are folders of sysctls.

    :raises InvalidParameter: naming the key.
    """
    trouble = _trouble_with_ifname(text)
    if trouble:
        shown = text if text.isprintable() else ascii(text)[1:-1]
        raise InvalidParameter(f'invalid interface name "{shown}" for {key}: {trouble}')
    return text


def _trouble_with_ifname(text: str) -> str:
    if text in _NO_IFNAMES:
        return 'must not be empty, ".", "..", "all" or "default"'
    if not text.isprintable() or any(c in "/:%" or c.isspace() for c in text):
        return 'must have no blanks, control characters, "/", ":" or "%"'
    return f"longer than {IFNAME_MAX} characters" if len(text.encode()) > IFNAME_MAX else ""
