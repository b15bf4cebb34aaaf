"""daemon.json and flags."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cnm import config, labels
from cnm.config import Settings
from cnm.errors import InvalidParameter


class Loader:
    """Loads a document as a file of this test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, document: object, **flags: Any) -> Settings:
        text = document if isinstance(document, str) else json.dumps(document)
        self.path.write_text(text)
        keys = {key.replace("_", "-"): value for key, value in flags.items()}
        return config.load(keys, str(self.path))

    def fault(self, document: object, **flags: Any) -> str:
        with pytest.raises(InvalidParameter) as caught:
            self(document, **flags)
        message = str(caught.value)
        assert "\n" not in message
        return message.removeprefix(f"unable to configure the cnm daemon with file {self.path}: ")


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path / "daemon.json")


def test_defaults(load: Loader) -> None:
    settings = load({})
    assert settings.hosts == ("/run/cnm/cnm.sock",)
    assert settings.root == Path("/var/lib/cnm")
    assert (settings.bridge, settings.log_level) == ("cnm0", "info")


def test_an_empty_file_says_nothing(load: Loader) -> None:
    assert load(" \n") == load({})


def test_sockets_and_pidfile_follow_the_exec_root(load: Loader) -> None:
    settings = load({}, exec_root="/tmp/lab")
    assert settings.hosts == ("/tmp/lab/cnm.sock",)
    assert settings.pidfile == Path("/tmp/lab/cnm.pid")


def test_everything_at_once(load: Loader) -> None:
    settings = load(
        {
            "data-root": "/a",
            "exec-root": "/b",
            "hosts": ["unix:///c", "unix:///c", "unix:///d"],
            "pidfile": "/e",
            "default-address-pools": [{"base": "10.0.0.0/8", "size": 26}],
            "bip": "172.30.0.1/24",
            "mtu": 1400,
            "icc": False,
            "ip-masq": False,
            "ip": "127.0.0.1",
            "ip-forward": False,
            "labels": ["a=b"],
            "sweep-interval": 5,
            "live-restore": True,
            "userns-remap": "nobody:mail",
            "default-network-opts": {"bridge": {labels.MTU: "1300"}},
        }
    )
    assert settings.hosts == ("/c", "/d")
    assert settings.address_pools == ((ip_network("10.0.0.0/8"), 26),)
    assert settings.bip == IPv4Interface("172.30.0.1/24")
    assert settings.bridge_options == {
        labels.BRIDGE_ICC: "false",
        labels.BRIDGE_MASQUERADE: "false",
        labels.BRIDGE_HOST_BINDING_IPV4: "127.0.0.1",
    }
    assert settings.network_options == {"bridge": {labels.MTU: "1300"}}
    assert settings.userns_remap == "nobody:mail"
    assert (settings.mtu, settings.sweep_interval_s, settings.ip_forward) == (1400, 5, False)


def test_names_and_where_to_listen(load: Loader) -> None:
    settings = load(
        {
            "dns": ["10.0.0.53", "fd00::53"],
            "dns-search": ["corp.example"],
            "dns-opts": ["timeout:1"],
            "metrics-addr": "[::1]:9323",
        }
    )
    assert settings.dns == (IPv4Address("10.0.0.53"), IPv6Address("fd00::53"))
    assert (settings.dns_search, settings.dns_options) == (("corp.example",), ("timeout:1",))
    assert settings.metrics_address == ("::1", 9323)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_where_the_host_asks(load: Loader, text: str, expected: tuple[str, int]) -> None:
    assert load({"dns-host-listen": text}).dns_host_listen == expected


def test_debug_is_a_log_level(load: Loader) -> None:
    assert load({"debug": True}).log_level == "debug"
    assert load({"debug": True}).debug


def test_flags_and_file_are_joined(load: Loader) -> None:
    settings = load({"mtu": 1400}, log_level="warn")
    assert (settings.mtu, settings.log_level) == (1400, "warn")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"foo": 1, "bar": 2},
            "the following directives don't match any configuration option: bar, foo",
        ),
        (
            {"log-level": "loud"},
            "log-level: \"loud\": should be 'debug', 'info', 'warn', 'error' or 'fatal'",
        ),
        ({"plugin-dir": "x"}, 'plugin-dir: "x": must be an absolute path of at most 75 bytes'),
        ({"dns": ["here"]}, 'dns.0: "here": must be an IP address'),
        ({"dns-search": ["a b"]}, 'dns-search.0: "a b": must be one word'),
        ({"metrics-addr": "x"}, 'metrics-addr: "x": must be IP:PORT'),
        ({"metrics-addr": "127.0.0.1"}, 'metrics-addr: "127.0.0.1": must be IP:PORT'),
        ({"dns-host-listen": "x"}, 'dns-host-listen: "x": must be IP[:PORT]'),
        ({"mtu": "big"}, 'mtu: "big": should be a valid integer'),
        ({"mtu": 5}, "mtu: must be 0 or from 68 to 65535"),
        ({"mtu": 70000}, "mtu: 70000: should be less than or equal to 65535"),
        (
            {"bip": "172.20.0.0/16"},
            'bip: "172.20.0.0/16": must be the bridge\'s address and prefix, such as 172.20.0.1/16',
        ),
        ({"hosts": ["tcp://1:2"]}, 'hosts.0: "tcp://1:2" is not supported: must be unix://PATH'),
        (
            {"hosts": ["unix://" + "/x" * 60]},
            f'hosts.0: "{"/x" * 60}": must be an absolute path of at most 107 bytes',
        ),
        (
            {"bridge": "a-name-that-is-too-long"},
            (
                'bridge: invalid interface name "a-name-that-is-too-long" for bridge:'
                " longer than 15 characters"
            ),
        ),
        (
            {"default-address-pools": [{"base": "10.0.0.0/8", "size": 4}]},
            "default-address-pools: size 4 of 10.0.0.0/8: must be from 8 to 32",
        ),
        (
            {"default-address-pools": [{"base": "10.0.0.7/8", "size": 24}]},
            'default-address-pools.0.base: "10.0.0.7/8": must be a subnet such as 10.10.0.0/16',
        ),
        ({"labels": ["a"]}, 'labels.0: "a": must be KEY=VALUE'),
        ({"firewall-backend": "iptables"}, 'firewall-backend: "iptables": must be nftables'),
        ([], "must be a JSON object, such as {}"),
        ('{"a"', "invalid JSON: Expecting ':' delimiter: line 1 column 5 (char 4)"),
    ],
)
def test_faults_name_the_key_and_what_is_allowed(
    load: Loader, document: object, message: str
) -> None:
    assert load.fault(document) == message


def test_a_flag_and_the_file_must_not_both_say_it(load: Loader) -> None:
    document = {"log-level": "info", "hosts": ["unix:///a"]}
    assert load.fault(document, log_level="debug", hosts=["unix:///b"]) == (
        "the following directives are specified both as a flag and in the configuration file:"
        " hosts: (from flag: [unix:///b], from file: [unix:///a]),"
        " log-level: (from flag: debug, from file: info)"
    )


def test_a_bad_flag_is_named(load: Loader) -> None:
    assert load.fault({}, bip="x").startswith('invalid flag --bip: "x": must be')


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="absent.json: no such file$"):
        config.load({}, str(tmp_path / "absent.json"))


@pytest.mark.parametrize("text", ["10.0.0.0/8", "base=10.0.0.0/8", "base=10.0.0.0/8,size=x", ""])
def test_pool_flags_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be base=CIDR,size=N"):
        config.pool_flag(text)


def test_a_pool_flag() -> None:
    assert config.pool_flag("base=10.0.0.0/8,size=24") == {"base": "10.0.0.0/8", "size": 24}
