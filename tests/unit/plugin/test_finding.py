"""Where plugins are looked for, and what their files may say."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cnm.errors import CNMError
from cnm.plugin.finding import Address, Trust, find


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, tuple[Path, Path]]:
    for name in ("run", "etc", "usr"):
        (tmp_path / name).mkdir()
    return tmp_path / "run", (tmp_path / "etc", tmp_path / "usr")


def listening(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def test_the_order_is_docker_s(places: tuple[Path, tuple[Path, Path]]) -> None:
    sockets, (etc, usr) = places
    assert find("weave", sockets, (etc, usr)) is None
    (usr / "weave.json").write_text('{"Name": "x", "Addr": "tcp://10.0.0.1:80"}')
    assert find("weave", sockets, (etc, usr)) == Address(host="10.0.0.1", port=80)
    (etc / "weave").mkdir()
    (etc / "weave" / "weave.spec").write_text("  unix:///a.sock\n")
    assert find("weave", sockets, (etc, usr)) == Address("/a.sock")
    listening(sockets / "weave" / "weave.sock")
    assert find("weave", sockets, (etc, usr)) == Address(str(sockets / "weave" / "weave.sock"))
    (sockets / "weave.sock").touch()  # no socket: as if it were not there
    assert find("weave", sockets, (etc, usr)) == Address(str(sockets / "weave" / "weave.sock"))


def test_trust(places: tuple[Path, tuple[Path, Path]]) -> None:
    sockets, (etc, usr) = places
    (etc / "w.json").write_text(
        '{"addr": "https://h:1", "TLSConfig": {"CAFile": "/ca", "InsecureSkipVerify": true}}'
    )
    found = find("w", sockets, (etc, usr))
    assert found == Address(host="h", port=1, trust=Trust("/ca", insecure=True))


@pytest.mark.parametrize("name", ["", "..", "a/b", "../run/x", ".x", "-x", "x\n", "é", "x" * 129])
def test_names(places: tuple[Path, tuple[Path, Path]], name: str) -> None:
    sockets, specs = places
    assert find(name, sockets, specs) is None


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        *((".spec", text) for text in ("", "here", "unix://x.sock", "tcp://h", "tcp://h:99999")),
        *((".json", text) for text in ("{", "[]", "{}", '{"Addr": 5}', '{"Addr": "ftp://h:1"}')),
    ],
)
def test_files_that_say_nothing(
    places: tuple[Path, tuple[Path, Path]], ending: str, text: str
) -> None:
    sockets, (etc, usr) = places
    (etc / f"w{ending}").write_text(text)
    with pytest.raises(CNMError, match="plugin file .*/w"):
        find("w", sockets, (etc, usr))
