"""Create requests made into definitions: values, refusals, and what is not built yet."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest

from cnm.containerapi import HostEntry, RestartMode, UsernsMode
from cnm.engine.createbody import ContainerCreateBody
from cnm.engine.definition import definition, warnings
from cnm.engine.versions import ApiVersion
from cnm.errors import CNMError, InvalidParameter, NotSupported
from cnm.runtimeapi import Bind, Propagation, Tmpfs
from cnm.types import PortBinding

NEWEST = ApiVersion(1, 51)


def body(host: dict[str, Any] | None = None, **top: Any) -> ContainerCreateBody:
    return ContainerCreateBody.model_validate({"Image": "x", "HostConfig": host, **top})


def test_what_the_command_line_sends() -> None:
    wish = definition(
        body(
            {
                "Binds": ["/a/:/b:ro", "/c:/d"],
                "Memory": 64 << 20,
                "NanoCpus": 500_000_000,
                "PidsLimit": -1,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "ExtraHosts": ["a:1.2.3.4", "b:host-gateway", "c:::1"],
                "Links": ["db:d", "/other"],
                "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                "Init": True,
            },
            Cmd="date",
            Entrypoint=[],
            ExposedPorts={"80/tcp": {}, "90-91/udp": {}},
            NetworkingConfig={"EndpointsConfig": {"default": None}},
        ),
        NEWEST,
    )
    assert wish.command.arguments == ("date",)
    assert wish.command.entrypoint == ()
    assert [(b.source, b.destination, b.read_only) for b in wish.binds] == [
        ("/a", "/b", True),
        ("/c", "/d", False),
    ]
    assert (wish.limits.memory_bytes, wish.limits.cpus, wish.limits.pids) == (64 << 20, 0.5, 0)
    assert wish.restart.mode is RestartMode.ON_FAILURE
    assert wish.names.hosts == (
        HostEntry("a", ipaddress.IPv4Address("1.2.3.4")),
        HostEntry("b"),
        HostEntry("c", ipaddress.IPv6Address("::1")),
    )
    assert wish.names.links == (("db", "d"), ("other", "other"))
    assert wish.security.no_new_privileges
    assert (wish.log.max_size_bytes, wish.log.max_files) == (10 << 20, 3)
    assert wish.exposed_ports == ("80/tcp", "90/udp", "91/udp")
    assert set(wish.endpoints) == {"bridge"}
    assert wish.host_config["NetworkMode"] == "bridge"


def test_what_is_mounted() -> None:
    wish = definition(
        body(
            {
                "Binds": ["/a:/b:ro,rslave,Z", "/c:/d:idmap"],
                "UsernsMode": "private",
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": "/etc",
                        "Target": "/e/",
                        "BindOptions": {"NonRecursive": True},
                    },
                    {
                        "Type": "tmpfs",
                        "Target": "/t",
                        "ReadOnly": True,
                        "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700},
                    },
                ],
                "Tmpfs": {"/s": "size=1m,exec"},
            },
            Volumes={"/b": {}},  # as docker-py sends it beside the bind
        ),
        NEWEST,
    )
    assert wish.binds == (
        Bind("/a", "/b", True, True, propagation=Propagation.SLAVE),
        Bind("/c", "/d", make_source=True, mapped=True),
        Bind("/etc", "/e", recursive=False),
    )
    assert wish.userns is UsernsMode.PRIVATE
    assert wish.tmpfs == (
        Tmpfs("/s", ("size=1m", "exec")),
        Tmpfs("/t", ("ro", "mode=700", "size=1m")),
    )


def test_a_container_wide_mac_address_is_the_first_networks() -> None:
    wish = definition(body(MacAddress="02:42:00:00:00:09"), NEWEST)
    assert wish.endpoints["bridge"].mac == "02:42:00:00:00:09"


def test_several_networks_need_a_newer_client() -> None:
    both = body(NetworkingConfig={"EndpointsConfig": {"a": {}, "b": {}}})
    assert set(definition(both, NEWEST).endpoints) == {"a", "b"}
    with pytest.raises(InvalidParameter, match="cannot be connected to network endpoints: a, b"):
        definition(both, ApiVersion(1, 43))


def test_ports_of_a_container_on_the_hosts_network_are_discarded() -> None:
    wish = body({"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}})
    assert definition(wish, NEWEST).ports == ()
    assert warnings(wish) == ["Published ports are discarded when using host network mode"]


def test_ports_that_are_asked_for() -> None:
    wish = definition(
        body(
            {
                "PortBindings": {
                    "80/TCP": [{"HostPort": "5005"}, {"HostIp": "127.0.0.1", "HostPort": "0"}],
                    "53/udp": [{"HostIp": "[::1]", "HostPort": "5000-5010"}],
                    "81": [{}],
                    "82/tcp": None,
                    "83/tcp": [],
                    "84/sctp": [{"HostPort": "84-84"}],
                }
            },
            ExposedPorts={"90-91/udp": {}},
        ),
        NEWEST,
    )
    assert wish.ports == (
        PortBinding("tcp", 80, None, 5005),
        PortBinding("tcp", 80, ipaddress.ip_address("127.0.0.1")),
        PortBinding("udp", 53, ipaddress.ip_address("::1"), 5000, 5010),
        PortBinding("tcp", 81),
        PortBinding("sctp", 84, None, 84),
    )
    assert wish.exposed_ports == (*("90/udp", "91/udp", "80/tcp", "53/udp", "81/tcp", "84/sctp"),)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], type[CNMError]]] = [
    (
        'invalid port specification: "0"',
        {"PortBindings": {"0/tcp": [{}]}},
        {},
        InvalidParameter,
    ),
    (
        'invalid port specification: "65536"',
        {"PortBindings": {"65536": [{}]}},
        {},
        InvalidParameter,
    ),
    (
        'invalid port specification: "80-90"',
        {"PortBindings": {"80-90/tcp": [{}]}},
        {},
        InvalidParameter,
    ),
    ("invalid proto: foo", {"PortBindings": {"80/foo": [{}]}}, {}, InvalidParameter),
    (
        'invalid port specification: "65536"',
        {"PortBindings": {"80/tcp": [{"HostPort": "65536"}]}},
        {},
        InvalidParameter,
    ),
    (
        'invalid port specification: "8010-8000"',
        {"PortBindings": {"80/tcp": [{"HostPort": "8010-8000"}]}},
        {},
        InvalidParameter,
    ),
    (
        "invalid IP address: 1.2.3",
        {"PortBindings": {"80/tcp": [{"HostIp": "1.2.3"}]}},
        {},
        InvalidParameter,
    ),
    ("--pid is not", {"PidMode": "host"}, {}, NotSupported),
    ("--device is not", {"Devices": [{}]}, {}, NotSupported),
    ("volumes are not", {"Binds": ["v:/b"]}, {}, NotSupported),
    ("volumes are not", {"Mounts": [{"Type": "volume", "Target": "/b"}]}, {}, NotSupported),
    ("volumes are not", {}, {"Volumes": {"/b": {}}}, NotSupported),
    ("bind propagation shared is not", {"Binds": ["/a:/b:shared"]}, {}, NotSupported),
    ("invalid mode: ro,ro", {"Binds": ["/a:/b:ro,ro"]}, {}, InvalidParameter),
    ("invalid volume specification: '/a:ro'", {"Binds": ["/a:ro"]}, {}, InvalidParameter),
    ("Duplicate mount point: /b", {"Binds": ["/a:/b", "/c:/b/"]}, {}, InvalidParameter),
    (
        "Duplicate mount point: /b",
        {"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}},
        {},
        InvalidParameter,
    ),
    ("invalid mount path: 'x'", {"Tmpfs": {"x": ""}}, {}, InvalidParameter),
    ("destination can't be '/'", {"Tmpfs": {"/": ""}}, {}, InvalidParameter),
    (
        'type "nope": mount type unknown',
        {"Mounts": [{"Type": "nope", "Target": "/x"}]},
        {},
        InvalidParameter,
    ),
    (
        'type "bind": field Source must not be empty',
        {"Mounts": [{"Type": "bind", "Target": "/x"}]},
        {},
        InvalidParameter,
    ),
    (
        'type "tmpfs": field Source must not be specified',
        {"Mounts": [{"Type": "tmpfs", "Target": "/x", "Source": "/y"}]},
        {},
        InvalidParameter,
    ),
    (
        'type "tmpfs": field BindOptions must not be specified',
        {"Mounts": [{"Type": "tmpfs", "Target": "/x", "BindOptions": {}}]},
        {},
        InvalidParameter,
    ),
    ("invalid USER mode: auto", {"UsernsMode": "auto"}, {}, InvalidParameter),
    ("range for oom score adj is", {"OomScoreAdj": 1001}, {}, InvalidParameter),
    ("invalid mode: x", {"Binds": ["/a:/b:x"]}, {}, InvalidParameter),
    ("invalid volume specification", {"Binds": ["/a"]}, {}, InvalidParameter),
    ("must be absolute", {"Binds": ["/a:b"]}, {}, InvalidParameter),
    ("can't be '/'", {"Binds": ["/a:/"]}, {}, InvalidParameter),
    (
        "bind source path does not exist: /nope",
        {"Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/x"}]},
        {},
        InvalidParameter,
    ),
    ("health checks are not", {}, {"Healthcheck": {"Test": ["CMD", "x"]}}, NotSupported),
    ("needs to be an absolute path", {}, {"WorkingDir": "x"}, InvalidParameter),
    ("invalid IP address in add-host", {"ExtraHosts": ["a:b"]}, {}, InvalidParameter),
    ("bad format for add-host", {"ExtraHosts": ["a"]}, {}, InvalidParameter),
    ("invalid DNS server address: x", {"Dns": ["x"]}, {}, InvalidParameter),
    ("no log driver named 'x'", {"LogConfig": {"Type": "x"}}, {}, InvalidParameter),
    ("unknown log opt 'x'", {"LogConfig": {"Config": {"x": "1"}}}, {}, InvalidParameter),
    ("unknown policy 'x'", {"RestartPolicy": {"Name": "x"}}, {}, InvalidParameter),
    ('invalid port specification: "x"', {}, {"ExposedPorts": {"x": {}}}, InvalidParameter),
    ("invalid environment variable", {}, {"Env": ["=x"]}, InvalidParameter),
    ("--security-opt x is not", {"SecurityOpt": ["x"]}, {}, NotSupported),
]


@pytest.mark.parametrize(
    ("text", "host", "top", "kind"), REFUSED, ids=[f"{n} {i[0]}" for n, i in enumerate(REFUSED)]
)
def test_refusals(
    text: str, host: dict[str, Any], top: dict[str, Any], kind: type[CNMError]
) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        definition(body(host, **top), NEWEST)
