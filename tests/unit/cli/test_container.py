"""``cnm adopt|release|ps|inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine
from unit.cli.documents import CONTAINER_ID, container, network


@pytest.mark.parametrize(
    ("netns", "sent"),
    [
        ("/run/netns/x", "/run/netns/x"),
        ("/proc/1/../2/ns/net", "/proc/2/ns/net"),
        ("no-such-name", "/run/netns/no-such-name"),
    ],
)
def test_adopt(server: Answering, served: CommandLine, netns: str, sent: str) -> None:
    server.answer("POST", "/cnm/v1/adopt", {"Id": CONTAINER_ID}, 201)
    assert served(f"adopt c1 --netns {netns} --label a=b") == (0, f"{CONTAINER_ID}\n", "")
    body = {"Name": "c1", "Labels": {"a": "b"}, "Netns": sent}
    assert server.requests == [("POST", "/cnm/v1/adopt", body)]


def test_adopt_relative_path(
    server: Answering, served: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served("adopt c1 --netns ./ns")
    assert server.requests[0].body["Netns"] == str(tmp_path / "ns")


def test_adopt_process(server: Answering, served: CommandLine) -> None:
    served("adopt c1 --pid 4711")
    assert server.requests[0].body == {"Name": "c1", "Labels": {}, "Pid": 4711}


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("", "say which namespace: either --netns PATH or --pid PID"),
        ("--netns x --pid 1", "say which namespace: either --netns PATH or --pid PID"),
        ("--netns ''", "invalid --netns: the path is empty"),
        ("--pid 0", "invalid --pid 0: a process id is above 0"),
    ],
)
def test_adopt_refuses(cnm: CommandLine, flags: str, problem: str) -> None:
    assert cnm(f"adopt c1 {flags}") == (1, "", f"{problem}\n")


def test_release_goes_on(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/cnm/v1/containers/c1/release", status=204)
    server.refuse("POST", "/cnm/v1/containers/x/release", 404, "No such container: x")
    assert served("release c1 x c1") == (
        1,
        "c1\nc1\n",
        "Error response from daemon: No such container: x\n",
    )


def test_ps(server: Answering, served: CommandLine) -> None:
    server.answer("GET", "/containers/json", [container()])
    status, out, _ = served("ps -a --filter network=n1 -n 3")
    header, row = out.splitlines()
    assert status == 0
    assert header.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    assert row.startswith(f'{CONTAINER_ID[:12]}   /run/netns/c1   ""        ')
    assert row.endswith("Up 3 hours             c1")
    assert server.requests[0].target == (
        "/v1.51/containers/json?all=1"
        "&filters=%7B%22network%22%3A%7B%22n1%22%3Atrue%7D%7D&limit=3"
    )  # fmt: skip


def test_ps_formats(server: Answering, served: CommandLine) -> None:
    bindings = [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 5005, "Type": "tcp"}]
    names = ["/c1", "/c2/alias"]
    command = 'say "hello" to everybody'
    server.answer(
        "GET", "/containers/json", [container(Names=names, Ports=bindings, Command=command)]
    )
    form = '{{.Names}} {{.Networks}} {{.Labels}} {{.Label "b"}} {{.Ports}} {{.State}} {{.Command}}'
    assert served(f"ps --format '{form}'").out == (
        'c1 n1,n2 a=2,b=1 1 0.0.0.0:5005->80/tcp running "say \\"hello\\" to ever…"\n'
    )
    assert served("ps --no-trunc --format '{{.Names}} {{.Command}}'").out == (
        'c1,c2/alias "say \\"hello\\" to everybody"\n'
    )
    assert served("ps -q").out == f"{CONTAINER_ID[:12]}\n"
    assert json.loads(served("ps --format json").out)["Image"] == "/run/netns/c1"
    assert served("ps -l").status == 0
    assert server.requests[-1].target.endswith("?limit=1")


def test_ps_of_the_runtime(server: Answering, served: CommandLine) -> None:
    mounts = [{"Source": "/srv/somewhere/deep"}, {"Name": "data", "Driver": "local"}]
    digest = "ab" * 32
    item = container(Image=f"sha256:{digest}", ImageID=f"sha256:{digest}", Mounts=mounts)
    server.answer("GET", "/containers/json", [item])
    form = "{{.Image}} {{.Mounts}} {{.LocalVolumes}}"
    assert served(f"ps --format '{form}'").out == "abababababab /srv/somewhere…,data 1\n"
    assert served(f"ps --no-trunc --format '{form}'").out == (
        f"sha256:{digest} /srv/somewhere/deep,data 1\n"
    )


@pytest.fixture
def objects(server: Answering) -> Answering:
    """A container c1, a network b, both named both."""
    for name in ("c1", "both"):
        server.answer("GET", f"/containers/{name}/json", {"Id": "1", "Name": f"/{name}"})
    for name in ("b", "both"):
        server.answer("GET", f"/networks/{name}", network(Name=name))
    return server


def test_inspect_containers_first(objects: Answering, served: CommandLine) -> None:
    status, out, err = served("inspect b c1 both nope")
    assert status == 1
    assert [item["Name"] for item in json.loads(out)] == ["b", "/c1", "/both"]
    assert err == "Error: No such object: nope\n"


def test_inspect_of_a_type(objects: Answering, served: CommandLine) -> None:
    assert served("inspect --type network -f '{{.Name}}' both").out == "both\n"
    assert served("inspect --type container -f '{{.Name}}' both").out == "/both\n"
    assert served("inspect --type network c1").err == (
        "Error response from daemon: page not found\n"
    )
    assert served("inspect --type volume c1") == (
        1,
        "",
        'unknown type: "volume": must be one of "container", "network", "image"\n',
    )


def test_inspect_images_last(objects: Answering, served: CommandLine) -> None:
    for path in ("a/b%3Ac", "both"):
        config = {"Labels": {"z": "1", "a": "2"}}
        document = {"Id": "i", "RepoTags": None, "Config": config}
        objects.answer("GET", f"/images/{path}/json", document)
    form = "{{.Id}} {{.ID}} {{.Config.Labels}} {{len .RepoTags}}"
    assert served(f"inspect -f '{form}' a/b:c").out == "i i map[a:2 z:1] 0\n"
    assert served("inspect -f '{{.Id}}' --type image both").out == "i\n"
    assert served("inspect -f '{{.Id}}' both").out == "1\n"


def test_inspect_reports_other_errors(server: Answering, served: CommandLine) -> None:
    server.refuse("GET", "/containers/c/json", 400, "ambiguous")
    assert served("inspect c") == (1, "[]\n", "Error response from daemon: ambiguous\n")
