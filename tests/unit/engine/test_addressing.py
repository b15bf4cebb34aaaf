"""Texts of requests into values, and Docker's words for what is wrong with them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from pydantic import ValidationError

from cnm.engine.addressing import endpoint_request, network_request
from cnm.engine.wire import ConnectBody, EndpointBody, NetworkCreateBody
from cnm.errors import InvalidParameter
from cnm.types import NetworkRequest

CONFIG = "invalid network config:\n"
ENDPOINT = "invalid endpoint settings:\n"


def create(**body: Any) -> NetworkRequest:
    return network_request(NetworkCreateBody.model_validate(body), ipv4_can_be_off=True)


def pool(**config: Any) -> dict[str, Any]:
    return {"Name": "x", "IPAM": {"Config": [config]}}


def test_what_the_cli_sends() -> None:
    request = create(
        Name="n1x",
        Driver="bridge",
        Scope="",
        IPAM={
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.66.0.0/24",
                    "IPRange": "10.66.0.128/25",
                    "Gateway": "10.66.0.1",
                    "AuxiliaryAddresses": {"a": "10.66.0.7"},
                }
            ],
        },
        ConfigFrom=None,
        Options={"com.docker.network.bridge.name": "brx"},
        Labels={"l": "v"},
    )
    config = request.ipam_config[0]
    assert config.subnet == ipaddress.ip_network("10.66.0.0/24")
    assert config.ip_range == ipaddress.ip_network("10.66.0.128/25")
    assert config.gateway == ipaddress.ip_address("10.66.0.1")
    assert config.aux_addresses == {"a": ipaddress.ip_address("10.66.0.7")}
    assert request.ipam_options == {}
    assert request.labels == {"l": "v"}


def test_what_docker_py_sends() -> None:
    request = create(Name="x", IPAM={"Driver": "default", "Config": [{"Subnet": None}]})
    assert request.ipam_config == ()
    assert request.ipam_options is None


def test_keys_match_whatever_their_case() -> None:
    request = create(name="x", DRIVER="macvlan", ipam={"config": [{"subnet": "10.1.0.0/24"}]})
    assert (request.name, request.driver) == ("x", "macvlan")
    assert request.ipam_config[0].subnet == ipaddress.ip_network("10.1.0.0/24")


def test_null_means_unset_and_unknown_keys_are_ignored() -> None:
    request = create(Name="x", Driver=None, Labels={"a": None}, CheckDuplicate=True, Nonsense=1)
    assert (request.driver, request.labels) == ("", {"a": ""})


@pytest.mark.parametrize(
    "body", [{"Name": 5}, {"Internal": "yes"}, {"Labels": {"a": 1}}, {"IPAM": []}]
)
def test_wrong_types_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NetworkCreateBody.model_validate(body)


def test_ipv4_cannot_be_off_in_old_versions() -> None:
    body = NetworkCreateBody.model_validate({"Name": "x", "EnableIPv4": False})
    assert network_request(body, ipv4_can_be_off=False).enable_ipv4 is None
    assert network_request(body, ipv4_can_be_off=True).enable_ipv4 is False


def test_a_prefix_length_alone() -> None:
    request = create(**pool(Subnet="0.0.0.0/24"))
    assert request.ipam_config[0].subnet == ipaddress.ip_network("0.0.0.0/24")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Subnet": "10.1.0.5/24"}, "invalid subnet 10.1.0.5/24: it should be 10.1.0.0/24"),
        ({"Subnet": "fd00::1/64"}, "invalid subnet fd00::1/64: it should be fd00::/64"),
        ({"Subnet": "10.1.0.0"}, "invalid subnet 10.1.0.0: invalid CIDR block notation"),
        ({"Subnet": "10.1.0.0/33"}, "invalid subnet 10.1.0.0/33: invalid CIDR block notation"),
        ({"Subnet": "nonsense"}, "invalid subnet nonsense: invalid CIDR block notation"),
        (
            {"Subnet": "10.1.0.0/255.255.255.0"},
            "invalid subnet 10.1.0.0/255.255.255.0: invalid CIDR block notation",
        ),
        ({"Gateway": "10.1.0.1"}, "invalid subnet : invalid CIDR block notation"),
        (
            {"Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25"},
            "invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range",
        ),
        (
            {"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.0/16"},
            "invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.1.0.0/24",
        ),
        (
            {"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.9/25"},
            "invalid ip-range 10.1.0.9/25: it should be 10.1.0.0/25",
        ),
        (
            {"Subnet": "10.1.0.0/24", "IPRange": "fd00::/80"},
            "invalid ip-range fd00::/80: parent subnet is an IPv4 block",
        ),
        (
            {"Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1"},
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address",
        ),
        ({"Subnet": "10.1.0.0/24", "Gateway": "x"}, "invalid gateway x: invalid address"),
        (
            {"Subnet": "fd00::/64", "Gateway": "10.2.0.1"},
            "invalid gateway 10.2.0.1: parent subnet is an IPv6 block",
        ),
        (
            {"Subnet": "10.1.0.0/24", "AuxiliaryAddresses": {"router": "10.9.0.1"}},
            (
                "invalid auxiliary address router: parent subnet 10.1.0.0/24 doesn't contain this"
                " address"
            ),
        ),
    ],
)
def test_one_fault(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        create(**pool(**config))
    assert str(caught.value) == CONFIG + message


def test_several_faults_are_told_together() -> None:
    with pytest.raises(InvalidParameter) as caught:
        create(**pool(Subnet="10.1.0.5/24", Gateway="10.2.0.1"))
    assert str(caught.value) == (
        f"{CONFIG}* invalid subnet 10.1.0.5/24: it should be 10.1.0.0/24\n"
        "* invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
    )


def test_a_connect_request() -> None:
    body = ConnectBody.model_validate(
        {
            "Container": "ev",
            "EndpointConfig": {
                "IPAMConfig": {"IPv4Address": "1.2.3.4", "LinkLocalIPs": ["169.254.7.7"]},
                "Links": None,
                "Aliases": ["z"],
                "MacAddress": "02-42-AC-11-00-02",
                "DriverOpts": {},
                "GwPriority": -5,
                "IPPrefixLen": 0,
            },
        }
    )
    request = endpoint_request(body.endpoint, mac_counts=True)
    assert request.ipv4 == ipaddress.ip_address("1.2.3.4")
    assert request.link_local == (ipaddress.ip_address("169.254.7.7"),)
    assert (request.aliases, request.gw_priority) == (("z",), -5)
    assert request.mac == "02:42:ac:11:00:02"
    assert endpoint_request(body.endpoint, mac_counts=False).mac is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"IPAMConfig": {"IPv4Address": "1.2.3"}}, "invalid IPv4 address: 1.2.3"),
        ({"IPAMConfig": {"IPv4Address": "fd00::1"}}, "invalid IPv4 address: fd00::1"),
        ({"IPAMConfig": {"IPv4Address": "0.0.0.0"}}, "invalid IPv4 address: 0.0.0.0"),
        ({"IPAMConfig": {"IPv6Address": "10.0.0.1"}}, "invalid IPv6 address: 10.0.0.1"),
        ({"IPAMConfig": {"IPv6Address": "fe80::1%a"}}, "invalid IPv6 address: fe80::1%a"),
        ({"IPAMConfig": {"LinkLocalIPs": ["x"]}}, "invalid link-local IP address: x"),
        ({"IPAMConfig": {"LinkLocalIPs": ["8.8.8.8"]}}, "invalid link-local IP address: 8.8.8.8"),
        ({"Aliases": ["a\x00b"]}, "invalid alias: it has control characters"),
        ({"Links": ["a\nb"]}, "invalid link: it has control characters"),
        ({"DriverOpts": {"k": "x\x01y"}}, "invalid driver option: it has control characters"),
        ({"DriverOpts": {"k": "\ud800"}}, "invalid driver option: it has control characters"),
        ({"GwPriority": 1 << 63}, "invalid gateway priority: out of range"),
        ({"MacAddress": "02:42"}, "invalid MAC address: 02:42"),
    ],
)
def test_faults_of_endpoints(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        endpoint_request(EndpointBody.model_validate(wanted), mac_counts=True)
    assert str(caught.value) == ENDPOINT + message
