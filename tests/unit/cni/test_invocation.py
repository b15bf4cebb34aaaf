"""What a runtime says, read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnm.cni.errors import CniError
from cnm.cni.invocation import Invocation, read

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
}
CONF = {"cniVersion": "1.1.0", "name": "pods", "type": "cnm-cni"}


def called(command: str = "ADD", **conf: Any) -> Invocation:
    return read({**ENVIRONMENT, "CNI_COMMAND": command}, json.dumps({**CONF, **conf}).encode())


def test_all_of_it() -> None:
    environment = {**ENVIRONMENT, "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web;;X=a=b"}
    call = read(environment, json.dumps(CONF).encode())
    assert (call.command, call.version, call.network) == ("ADD", "1.1.0", "pods")
    assert (call.container, call.netns, call.interface) == ("c1", "/run/netns/c1", "eth0")
    assert call.arguments == {"IgnoreUnknown": "1", "K8S_POD_NAME": "web", "X": "a=b"}


@pytest.mark.parametrize(
    ("command", "version", "fine"),
    [
        ("ADD", "0.3.0", True),
        ("ADD", "0.2.0", False),
        ("ADD", "1.2.0", False),
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
    ],
)
def test_versions(command: str, version: str, fine: bool) -> None:
    if fine:
        assert called(command, cniVersion=version).version == version
    else:
        with pytest.raises(CniError) as refused:
            called(command, cniVersion=version)
        assert refused.value.code == 1


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"1", b"[" * 100_000, b" " * (5 << 20)])
def test_what_is_no_configuration(text: bytes) -> None:
    with pytest.raises(CniError) as refused:
        read(ENVIRONMENT, text)
    assert refused.value.code == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_COMMAND", ""),
        ("CNI_COMMAND", "add"),
        ("CNI_CONTAINERID", "../x"),
        ("CNI_CONTAINERID", ".x"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "é" * 8),
        ("CNI_NETNS", ""),
        ("CNI_ARGS", "K"),
    ],
)
def test_bad_environments(name: str, value: str) -> None:
    with pytest.raises(CniError) as refused:
        read({**ENVIRONMENT, name: value}, json.dumps(CONF).encode())
    assert refused.value.code == 4


def test_del_needs_no_namespace() -> None:
    assert read({**ENVIRONMENT, "CNI_COMMAND": "DEL", "CNI_NETNS": ""}, json.dumps(CONF).encode())


def test_errors_as_documents() -> None:
    assert CniError(7, "short").document("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 7,
        "msg": "short",
    }
    assert CniError(7, "short", "long").document("1.0.0")["details"] == "long"
