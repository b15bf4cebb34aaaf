"""``cnm images|rmi|tag|import|load``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

from cnm.cli.image import whole_name

IDENTIFIER = "sha256:" + "ab" * 32


def image(**changes: Any) -> dict[str, Any]:
    """An image with two names."""
    return {
        "Id": IDENTIFIER,
        "RepoTags": ["busybox:1", "host.example:5000/busybox:latest"],
        "Created": int(time.time()) - 7200,
        "Size": 4_261_550,
        "SharedSize": -1,
        "Containers": -1,
    } | changes


def test_images(server: Answering, served: CommandLine) -> None:
    server.answer("GET", "/images/json", [image(), image(RepoTags=[], Size=0)])
    status, out, err = served("images")
    assert (status, err) == (0, "")
    assert out == (
        "REPOSITORY                  TAG       IMAGE ID       CREATED       SIZE\n"
        "busybox                     1         abababababab   2 hours ago   4.26MB\n"
        "host.example:5000/busybox   latest    abababababab   2 hours ago   4.26MB\n"
        "<none>                      <none>    abababababab   2 hours ago   0B\n"
    )
    assert server.requests[0].target == "/v1.51/images/json"


def test_images_formats(server: Answering, served: CommandLine) -> None:
    server.answer("GET", "/images/json", [image(RepoTags=["a:b"], SharedSize=1, Containers=2)])
    assert served("images -q").out == "abababababab\n"
    assert served("images -q --no-trunc").out == f"{IDENTIFIER}\n"
    form = "{{.Repository}}:{{.Tag}} {{.Digest}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}"
    assert served(f"images --format '{form}'").out == "a:b <none> 1B 4.26MB 2\n"


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("-a", "?all=1"),
        ("b:1", '?filters={"reference":{"b:1":true}}'),
        ("-f a=b x", '?filters={"a":{"b":true},"reference":{"x":true}}'),
    ],
)
def test_images_asked_for(server: Answering, served: CommandLine, words: str, query: str) -> None:
    server.answer("GET", "/images/json", [])
    served(f"images {words}")
    assert unquote(server.requests[0].target) == f"/v1.51/images/json{query}"


def test_rmi(server: Answering, served: CommandLine) -> None:
    removed = [{"Untagged": "a/b:c"}, {"Deleted": IDENTIFIER}]
    server.answer("DELETE", "/images/a/b%3Ac", removed)
    server.refuse("DELETE", "/images/x", 404, "No such image: x:latest")
    server.refuse("DELETE", "/images/used", 409, "conflict: it is in use")
    missing = "Error response from daemon: No such image: x:latest\n"
    shown = f"Untagged: a/b:c\nDeleted: {IDENTIFIER}\n"
    assert served("rmi x a/b:c") == (1, shown, missing)
    assert served("rmi -f x a/b:c") == (0, shown, missing)
    conflict = "Error response from daemon: conflict: it is in use\n"
    assert served("rmi -f x used") == (1, "", missing + conflict)
    assert server.requests[-1].target == "/v1.51/images/used?force=1"


def test_tag(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/images/a/b%3Ac/tag", status=201)
    assert served("tag a/b:c d") == (0, "", "")
    assert server.requests[0].target == (
        "/v1.51/images/a/b%3Ac/tag?repo=docker.io%2Flibrary%2Fd&tag=latest"
    )


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("a", ("docker.io/library/a", "latest")),
        ("a:1", ("docker.io/library/a", "1")),
        ("a/b", ("docker.io/a/b", "latest")),
        ("localhost/b:1", ("localhost/b", "1")),
        ("h:5000/b", ("h:5000/b", "latest")),
        ("h.example/b:c", ("h.example/b", "c")),
    ],
)
def test_whole_names(name: str, whole: tuple[str, str]) -> None:
    assert whole_name(name) == whole


def test_import(server: Answering, served: CommandLine, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(b"\x00\x01" * 400_000)
    server.raw("POST", "/images/create", b'HTTP/1.1 200 OK\r\n\r\n{"status":"sha256:ab"}\r\n')
    changes = """-c 'CMD ["sh"]' -c 'ENV A=b'"""
    assert served(f"import {changes} -m hello {archive} a:b") == (0, "sha256:ab\n", "")
    assert server.requests[0].target == (
        "/v1.51/images/create?changes=CMD%20%5B%22sh%22%5D&changes=ENV%20A%3Db"
        "&fromSrc=-&message=hello&repo=a%3Ab"
    )
    assert server.requests[0].body == archive.read_bytes()


def test_import_refused_early(server: Answering, served: CommandLine, tmp_path: Path) -> None:
    """What is told at the end of the answer is the error."""
    archive = tmp_path / "root.tar"
    archive.write_bytes(b"no tar")
    told = b'{"status":"reading"}\n{"errorDetail":{"message":"not a tar"},"error":"x"}'
    server.raw("POST", "/images/create", b"HTTP/1.1 200 OK\r\n\r\n" + told)
    assert served(f"import {archive}") == (1, "reading\n", "not a tar\n")


@pytest.mark.parametrize("words", ["import", "load -i"])
def test_no_such_file(cnm: CommandLine, tmp_path: Path, words: str) -> None:
    missing = tmp_path / "no"
    problem = f"open {missing}: no such file or directory\n"
    assert cnm(f"{words} {missing}") == (1, "", problem)


def test_unreadable_file(server: Answering, served: CommandLine, tmp_path: Path) -> None:
    problem = f"open {tmp_path}: is a directory\n"
    assert served(f"import {tmp_path}") == (1, "", problem)


def test_load(server: Answering, served: CommandLine, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    archive.write_bytes(b"")
    told = b'{"progressDetail":{"current":1}}\n{"stream":"Loaded image: a:b\\n"}\n'
    server.raw("POST", "/images/load", b"HTTP/1.1 200 OK\r\n\r\n" + told)
    assert served(f"load -i {archive}") == (0, "Loaded image: a:b\n", "")
    assert server.requests[0] == ("POST", "/v1.51/images/load?quiet=1", b"")


def test_load_standard_input(server: Answering) -> None:
    server.raw("POST", "/images/load", b'HTTP/1.1 200 OK\r\n\r\n{"stream":"ok\\n"}')
    code = "import sys; from cnm.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "-H", server.host, "load"]
    done = subprocess.run(command, input=b"saved", capture_output=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"ok\n", b"")
    assert server.requests[0].body == b"saved"
