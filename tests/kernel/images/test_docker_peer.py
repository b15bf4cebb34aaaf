"""Against a real Docker Engine: what it saves is loaded and means the same; its texts are ours."""

from __future__ import annotations

import io
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.images.trees import merged
from peers.api import ApiError, UnixConnection
from peers.dockerd import Dockerd
from unit.images.tars import Dribble, Member, directory, member, symlink, tar

from cnm.errors import CNMError
from cnm.imageapi import ImageUser
from cnm.runtime.container.imagestore import ImageStore

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

CHANGES = [
    *("ENV A=1 B=$A-2 C='x y'", "WORKDIR /a/../b", "EXPOSE 80 90/udp", "LABEL l=v"),
    *("USER 7:8", "VOLUME /v", 'ENTRYPOINT ["/e"]', "CMD c $A"),
]
SCRIPT = """rm /d/a /gone; rm -r /tree; mkdir /tree; echo new > /tree/new; ln -s /d /link;
echo longer > /d/b; mkfifo /p; chown 5:6 /d/b; chmod 4755 /d/b; ln /d/b /hard; touch -d @99 /d/b"""
LIST = r"""find . | sort | xargs -d '\n' stat -c '%n %F %a %u:%g %N'; cat d/b tree/new;
find . -type f | sort | xargs -d '\n' stat -c '%n %h %Y'"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with Dockerd() as made:
        yield made


def root_tar() -> bytes:
    busybox = Path(shutil.which("busybox") or "/bin/busybox").resolve().read_bytes()
    applets: list[Member] = [
        symlink(f"bin/{name}", "busybox")
        for name in ("sh", "rm", "mkdir", "ln", "mkfifo", "chown", "chmod", "touch")
    ]
    return tar(
        directory("bin"), member("bin/busybox", busybox, mode=0o755), *applets,
        directory("d", mode=0o750), member("d/a"), member("d/b", b"b"), member("gone"),
        directory("tree"), member("tree/old"), symlink("host", "/etc/passwd"),
    )  # fmt: skip


def bring(engine: Dockerd, name: str, data: bytes, *changes: str) -> None:
    query = [("fromSrc", "-"), ("repo", name), *(("changes", change) for change in changes)]
    engine.api.call("POST", f"/images/create?{urllib.parse.urlencode(query)}", data)


def raw(engine: Dockerd, path: str) -> bytes:
    connection = UnixConnection(engine.socket)
    connection.request("GET", path)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    assert response.status == 200, data
    return data


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Without what names the engine, times, and Docker's record of the building container."""
    odd = ("ContainerConfig", "Container", "DockerVersion", "GraphDriver", "Metadata", "Created")
    config = {key: value or None for key, value in document["Config"].items() if key != "Hostname"}
    kept = {key: value for key, value in document.items() if key not in odd}
    return {**kept, "Config": config}


def test_what_docker_saves(engine: Dockerd, store: ImageStore) -> None:
    bring(engine, "base", root_tar())
    wish = {
        "Image": "base",
        "Cmd": ["/bin/sh", "-c", SCRIPT],
        "HostConfig": {"NetworkMode": "none"},
    }
    made = engine.api.call("POST", "/containers/create", wish)["Id"]
    engine.api.call("POST", f"/containers/{made}/start")
    assert engine.api.call("POST", f"/containers/{made}/wait")["StatusCode"] == 0
    engine.api.call("POST", f"/commit?container={made}&repo=changed&tag=2", {})
    theirs = engine.api.call("GET", "/images/changed:2/json")

    [loaded] = store.load(io.BytesIO(raw(engine, "/images/get?names=changed:2")))
    assert (loaded.id, loaded.references) == (theirs["Id"], ("changed:2",))
    ours = store.inspect("changed:2")
    for key in ("RepoTags", "Architecture", "Os", "Size", "RootFS", "Created", "Comment"):
        assert ours[key] == theirs[key], key
    lower = store.lower_directories(loaded.id)
    assert len(lower) == 2
    shown = merged([path.replace(":", "\\:") for path in lower], LIST)

    export = io.BytesIO(raw(engine, f"/containers/{made}/export"))
    exported = merged([store.lower_directories(store.import_tar(export))[0]], LIST)
    mounted = ("./dev", "./etc", "./proc", "./sys", "./.dockerenv")  # put there by the engine
    left = [line for line in exported.splitlines() if not line.startswith(mounted)]
    assert [line for line in shown.splitlines() if not line.startswith(mounted)] == left
    assert "./gone" not in shown
    assert "tree/old" not in shown


def test_import_with_changes(engine: Dockerd, store: ImageStore) -> None:
    data = tar(member("f", b"content"))
    bring(engine, "imported:1", data, *CHANGES)
    store.import_tar(Dribble(data), "imported:1", changes=CHANGES)
    theirs = comparable(engine.api.call("GET", "/images/imported:1/json"))
    ours = comparable(store.inspect("imported:1"))
    assert theirs.pop("Id") != ours.pop("Id")  # the documents tell their time
    assert ours == theirs


@pytest.mark.parametrize(
    "name",
    ["nope", "-", "a b", "x:", "nope@sha256:" + "0" * 64, "0" * 64, "docker.io/nope:1", "ffff"],
)
def test_texts_of_look_ups(engine: Dockerd, store: ImageStore, name: str) -> None:
    with pytest.raises(ApiError) as theirs:
        engine.api.call("DELETE", f"/images/{urllib.parse.quote(name)}")
    with pytest.raises(CNMError) as ours:
        store.remove(name, lambda _: [])
    assert f"{ours.value.http_status}: {ours.value}" == str(theirs.value)


def test_texts_of_conflicts(engine: Dockerd, store: ImageStore) -> None:
    data = root_tar()
    bring(engine, "used", data)
    wish = {"Image": "used", "Cmd": ["/bin/sh"]}
    container = engine.api.call("POST", "/containers/create", wish)["Id"]
    theirs_id = engine.api.call("GET", "/images/used/json")["Id"]
    ours_id = store.import_tar(Dribble(data), "used")
    using = [ImageUser(container, running=False)]
    for name in ("used", theirs_id):
        with pytest.raises(ApiError) as theirs:
            engine.api.call("DELETE", f"/images/{name}")
        with pytest.raises(CNMError) as ours:
            store.remove(name.replace(theirs_id, ours_id), lambda _: using)
        text = str(ours.value).replace(ours_id[7:19], theirs_id[7:19])
        assert f"{ours.value.http_status}: {text}" == str(theirs.value)
