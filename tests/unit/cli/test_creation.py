"""``cnm run|create``: the request, beside what docker 28.2.2 sent for the same words.

The golden files were recorded from it, run in the root directory with FOO=bar: the first
body whole, of the others what differs from it; and what it refuses, with its status.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

GOLDEN = Path(__file__).parent / "golden"
BODIES: dict[str, Any] = json.loads((GOLDEN / "creation.json").read_text())
ERRORS: dict[str, Any] = json.loads((GOLDEN / "creation_errors.json").read_text())


@pytest.fixture
def creating(server: Answering) -> Answering:
    """A server that makes containers."""
    server.answer("POST", "/containers/create", {"Id": "c" * 64, "Warnings": []}, 201)
    return server


@pytest.mark.parametrize("line", BODIES)
def test_request(
    creating: Answering, served: CommandLine, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("FOO", "bar")
    monkeypatch.delenv("NOPE", raising=False)
    served(f"run {line}")
    wanted = BODIES["x"] | BODIES[line]
    wanted["HostConfig"] = BODIES["x"]["HostConfig"] | wanted["HostConfig"]
    assert creating.requests[0].body == wanted


@pytest.mark.parametrize("line", ERRORS)
def test_refusals(served: CommandLine, line: str) -> None:
    status, text = ERRORS[line]
    assert served(line) == (status, "", text)


def test_create(creating: Answering, served: CommandLine) -> None:
    done = served("create --name c1 -i --dns 127.0.0.1 host sh -c 'exit 3' --rm")
    assert done == (
        0,
        "c" * 64 + "\n",
        "WARNING: Localhost DNS (127.0.0.1) may fail in containers.\n",
    )
    request = creating.requests[0]
    assert request.target == "/v1.51/containers/create?name=c1"
    assert request.body["Cmd"] == ["sh", "-c", "exit 3", "--rm"]
    assert request.body["StdinOnce"] is True
    assert request.body["HostConfig"]["AutoRemove"] is False


def test_create_refuses(server: Answering, served: CommandLine) -> None:
    server.refuse("POST", "/containers/create", 409, "Conflict. The name is taken.")
    daemons = "Error response from daemon: Conflict. The name is taken.\n"
    assert served("create x") == (1, "", daemons)
    more = "\nRun 'cnm run --help' for more information\n"
    assert served("run x") == (125, "", f"cnm: {daemons}{more}")
    assert served("create -p a:b x") == (
        125,
        "",
        "cnm: invalid containerPort: b\n\nRun 'cnm create --help' for more information\n",
    )


def test_missing_image(server: Answering, served: CommandLine) -> None:
    server.refuse("POST", "/containers/create", 404, "No such image: x:latest")
    advice = (
        "Unable to find image 'x:latest' locally: make it with `cnm import ROOTFS.tar x:latest`"
    )
    done = served("create x")
    assert done.status == 1
    assert done.err.startswith(advice)
    done = served("run x")
    assert done.status == 125
    assert done.err.startswith(f"cnm: {advice}")
    server.refuse("POST", "/containers/create", 404, "No such container: y")
    assert served("create x").err == "Error response from daemon: No such container: y\n"


def test_files_of_variables(
    creating: Answering, served: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOO", "bar")
    monkeypatch.delenv("NOPE", raising=False)
    variables, labels = tmp_path / "e", tmp_path / "l"
    variables.write_text("\ufeff# no\n\n  A=1\nFOO\nNOPE\nB=x y \n", encoding="utf-8")
    labels.write_text("a=1\nb\nc=\n")
    served(f"create --env-file {variables} -e C --label-file {labels} -l d=e -l f x")
    body = creating.requests[0].body
    assert body["Env"] == ["A=1", "FOO=bar", "B=x y ", "C"]
    assert body["Labels"] == {"a": "1", "c": "", "d": "e", "f": ""}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"=x", "no variable name on line '=x'"),
        (b"a b=x", "variable 'a b' contains whitespaces"),
        (b"\xff=x", "it is not UTF-8"),
    ],
)
def test_bad_files_of_variables(
    cnm: CommandLine, tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "e"
    file.write_bytes(content)
    done = cnm(f"create --env-file {file} x")
    assert done.status == 125
    assert done.err.startswith(f"cnm: invalid env file ({file}): {problem}\n")


def test_seccomp_profile(creating: Answering, served: CommandLine, tmp_path: Path) -> None:
    profile = tmp_path / "p"
    profile.write_text('{ "a": "é",\n "b": [1, 2] }', encoding="utf-8")
    served(f"create --security-opt seccomp={profile} x")
    security = creating.requests[0].body["HostConfig"]["SecurityOpt"]
    assert security == ['seccomp={"a":"é","b":[1,2]}']
    profile.write_text("{")
    done = served(f"create --security-opt seccomp={profile} x")
    assert done.err.startswith(f"cnm: compacting json for seccomp profile ({profile}) failed: ")


def test_cidfile(server: Answering, served: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "id"
    server.refuse("POST", "/containers/create", 500, "no")
    assert served(f"create --cidfile {file} x").status == 1
    assert not file.exists()
    server.answer("POST", "/containers/create", {"Id": "1"}, 201)
    assert served(f"create --cidfile {file} x").out == "1\n"
    assert file.read_text() == "1"
    assert served(f"create --cidfile {file} x").err == (
        f"container ID file found, make sure the other container isn't running or delete {file}\n"
    )
    assert served(f"create --cidfile {tmp_path}/no/id x").err == (
        f"failed to create the container ID file: open {tmp_path}/no/id: "
        "no such file or directory\n"
    )


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("-v ab::c", "cnm: invalid spec: ab::c: empty section between colons"),
        ("-v /a:/b:ro:x", "cnm: invalid spec: /a:/b:ro:x: too many colons"),
        ("--userns keep-id", "cnm: --userns: invalid USER mode"),
        ("-p [::1:80:80", "cnm: invalid IP address [::1: address [::1:: missing ']' or port"),
    ],
)
def test_own_refusals(cnm: CommandLine, flags: str, problem: str) -> None:
    done = cnm(f"create {flags} x")
    assert done.status == 125
    assert done.err.startswith(f"{problem}\n")


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        ("type=bind,dst=/b,tmpfs-mode=700", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
        ("type=tmpfs,dst=/b,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("type=tmpfs,dst=/b,tmpfs-size=-1", "invalid value for tmpfs-size: -1"),
        ("type=tmpfs", "target is required"),
        ("type=,dst=/b", "type is required"),
        ("type=bind,dst=/b,bind-propagation=x", "invalid value for bind-propagation: x"),
    ],
)
def test_mounts_that_cannot_be_read(cnm: CommandLine, mount: str, problem: str) -> None:
    done = cnm(f"create --mount {mount} x")
    flag = f'invalid argument "{mount}" for "--mount" flag'
    assert done.err.startswith(f"{flag}: {problem}\n")


def test_old_spellings_are_not_shown(cnm: CommandLine) -> None:
    shown = cnm("run --help").out
    assert "--network-alias list" in shown
    assert "-h, --hostname string" in shown
    assert "      --help " in shown
    assert "--net-alias" not in shown
    assert "--net " not in shown
