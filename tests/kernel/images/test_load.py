"""`load`: docker save's shapes and OCI layouts; what contradicts itself is refused whole."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernel.images.trees import everything, kinds, merged, nodes
from unit.images.tars import (
    Dribble,
    Image,
    Layout,
    device,
    digest,
    directory,
    docker_save,
    hard_link,
    member,
    symlink,
    tar,
)

from cnm.errors import Forbidden, InvalidParameter
from cnm.imageapi import ImageConfig, ImageID, LoadedImage
from cnm.runtime.container.archive import Limits
from cnm.runtime.container.imageconfig import machine_architecture
from cnm.runtime.container.imagestore import ImageStore

pytestmark = pytest.mark.kernel

BASE = tar(
    directory("etc"), member("etc/a", b"base a"), member("etc/b", b"base b"),
    directory("data"), member("data/old", b"old"), member("gone", b"gone"),
)  # fmt: skip
MIDDLE = tar(member("etc/.wh.b"), member(".wh.gone"), member("etc/c", b"middle c"))
TOP = tar(member("data/.wh..wh..opq"), member("data/new", b"new"), member("gone/again", b"dir"))
CONFIG = {"Cmd": ["sh"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"l": "v"}}
HERE = {"os": "linux", "architecture": machine_architecture()}
ELSEWHERE = {"os": "linux", "architecture": "s390x"}
IMAGE = Image(
    [BASE, MIDDLE, TOP], ["x:1", "user/y"], CONFIG, architecture=machine_architecture()
)  # fmt: skip
SMALL = Image([BASE], architecture=machine_architecture())


def load(store: ImageStore, archive: bytes) -> list[LoadedImage]:
    return list(store.load(Dribble(archive, 5000)))


def oci(*manifests: Callable[[Layout], dict[str, Any]]) -> bytes:
    layout = Layout()
    layout.manifests = [make(layout) for make in manifests]
    return layout.archive()


def test_docker_save(store: ImageStore) -> None:
    [loaded] = load(store, docker_save(IMAGE))
    assert loaded == LoadedImage(ImageID(IMAGE.id), ("x:1", "user/y:latest"))
    assert store.find("x:1") == store.find("docker.io/user/y") == IMAGE.id
    assert store.config(loaded.id) == ImageConfig(
        env=("A=1",), cmd=("sh",), exposed_ports=("80/tcp",), labels={"l": "v"}
    )
    lower = [Path(path) for path in store.lower_directories(loaded.id)]
    assert [sorted(kinds(path)) for path in lower] == [
        ["data", "data/new", "gone", "gone/again"],
        ["etc", "etc/b", "etc/c", "gone"],
        ["data", "data/old", "etc", "etc/a", "etc/b", "gone"],
    ]


def test_overlayfs_shows_the_image(store: ImageStore) -> None:
    [loaded] = load(store, docker_save(IMAGE))
    shown = merged(store.lower_directories(loaded.id), "find . -type f | sort | xargs grep -H .")
    assert shown.splitlines() == [
        "./data/new:new",
        "./etc/a:base a",
        "./etc/c:middle c",
        "./gone/again:dir",
    ]


def test_an_opaque_root_hides_all_below(store: ImageStore) -> None:
    top = tar(member(".wh..wh..opq"), member("only", b"x"))
    [loaded] = load(store, docker_save(Image([BASE, top, tar(member("more", b"y"))])))
    shown = merged(store.lower_directories(loaded.id), "find . -type f | sort")
    assert shown.split() == ["./more", "./only"]


def test_a_layer_that_comes_twice(store: ImageStore) -> None:
    """Old builders have empty layers again and again; overlayfs refuses them."""
    empty = tar()
    [loaded] = load(store, docker_save(Image([empty, BASE, empty, MIDDLE, empty])))
    assert len(store.lower_directories(loaded.id)) == 3
    assert merged(store.lower_directories(loaded.id), "ls etc").split() == ["a", "c"]


def test_many_layers_fit_into_one_page_of_options(store: ImageStore) -> None:
    layers = [tar(member(f"f{number}", b"%d" % number)) for number in range(125)]
    [loaded] = load(store, docker_save(Image(layers)))
    lower = store.lower_directories(loaded.id)
    prefix = len(str(Path(lower[0]).parent)) - len("/var/lib/cnm/images/trees")
    assert len(":".join(lower)) - prefix * len(lower) < 4096 - 300


def test_layers_are_shared(store: ImageStore) -> None:
    other = Image([BASE, TOP], ["z"], architecture="amd64")
    first, second = load(store, docker_save(IMAGE, other))
    bottoms = {store.lower_directories(image.id)[-1] for image in (first, second)}
    assert len(bottoms) == 1


def test_links_between_layers_of_old_archives(store: ImageStore) -> None:
    manifest = [{"Config": "c.json", "RepoTags": ["x"], "Layers": ["1/layer.tar", "2/layer.tar"]}]
    image = Image([BASE, BASE])
    archive = tar(
        directory("1"), member("1/layer.tar", BASE), symlink("2/layer.tar", "../1/layer.tar"),
        member("c.json", image.document()), member("manifest.json", json.dumps(manifest).encode()),
    )  # fmt: skip
    assert load(store, archive)[0].id == image.id


def test_docker_save_that_is_an_oci_layout_too(store: ImageStore) -> None:
    """Docker 25 and later: manifest.json names blobs."""
    layout = Layout()
    layout.manifests = [layout.manifest(IMAGE, packed=False)]
    blob = {data: name for name, data in layout.members.items()}
    layout.members["manifest.json"] = json.dumps(
        [{
            "Config": blob[IMAGE.document()], "RepoTags": ["x:1"],
            "Layers": [blob[layer] for layer in IMAGE.layers],
        }]
    ).encode()  # fmt: skip
    assert load(store, layout.archive()) == [LoadedImage(ImageID(IMAGE.id), ("x:1",))]


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"io.containerd.image.name": "docker.io/library/x:1"}, ("x:1",)),
        ({"org.opencontainers.image.ref.name": "reg.example/x:1"}, ("reg.example/x:1",)),
        ({"org.opencontainers.image.ref.name": "latest"}, ()),
        ({}, ()),
    ],
)
def test_oci_names(store: ImageStore, annotations: dict[str, str], names: tuple[str, ...]) -> None:
    archive = oci(lambda layout: layout.manifest(SMALL, annotations=annotations))
    assert load(store, archive) == [LoadedImage(ImageID(SMALL.id), names)]


def test_packed_archive(store: ImageStore) -> None:
    assert load(store, gzip.compress(docker_save(SMALL)))[0].id == SMALL.id


def test_oci_platforms(store: ImageStore) -> None:
    other = Image([MIDDLE], architecture="s390x")
    notes = Image([TOP], architecture="unknown", os="unknown")
    name = {"org.opencontainers.image.ref.name": "x:1"}
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}

    def nested(layout: Layout) -> dict[str, Any]:
        unknown = {"os": "unknown", "architecture": "unknown"}
        offered = [
            layout.manifest(other, platform=ELSEWHERE),
            layout.manifest(SMALL, platform=HERE),
            layout.manifest(notes, platform=unknown, annotations=attestation),
        ]
        return layout.index(offered, annotations=name)

    assert load(store, oci(nested)) == [LoadedImage(ImageID(SMALL.id), ("x:1",))]
    assert [image.id for image in store.summaries()] == [SMALL.id]


def test_oci_without_the_other_platforms_parts(store: ImageStore) -> None:
    def partial(layout: Layout) -> dict[str, Any]:
        absent = {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 5}
        return layout.index([{**absent, "platform": ELSEWHERE}, layout.manifest(SMALL)])

    assert load(store, oci(partial))[0].id == SMALL.id


def broken_manifest(**changes: Any) -> bytes:
    """A `docker save` whose manifest.json says something else."""
    item = {"Config": f"{SMALL.id[7:]}.json", "Layers": [f"{digest(BASE)[7:]}/layer.tar"]}
    return docker_save(SMALL, manifest=[{**item, **changes}])


def damaged_blob() -> bytes:
    layout = Layout()
    layout.manifests = [layout.manifest(SMALL)]
    layout.members[f"blobs/sha256/{SMALL.id[7:]}"] = b"other"
    return layout.archive()


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    layout = Layout()
    document = json.loads(layout.members["blobs/sha256/" + layout.manifest(SMALL)["digest"][7:]])
    change(document)
    kind = "application/vnd.oci.image.manifest.v1+json"
    layout.manifests = [layout.blob(json.dumps(document).encode(), kind)]
    return layout.archive()


def deep_index(layout: Layout) -> dict[str, Any]:
    descriptor = layout.manifest(SMALL)
    for _ in range(6):
        descriptor = layout.index([descriptor])
    return descriptor


WRONG = Image([BASE], changes={"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}})
HOSTILE: dict[str, tuple[bytes, str]] = {
    "no archive": (b"text" * 500, "the archive is no tar archive"),
    "empty": (b"", "the archive is no good tar archive: it is empty"),
    "a root file system": (BASE, "has neither manifest.json nor index.json"),
    "escape": (tar(member("../x")), 'entry "../x" is refused: it points outside the root'),
    "device": (tar(device("x", 1, 3)), 'entry "x" is refused: it is a character device'),
    "twice": (tar(member("x"), member("x")), 'entry "x" is refused: it is there twice'),
    "twice as a link": (
        tar(member("x"), hard_link("./x", "y")), 'entry "./x" is refused: it is there twice'),
    "links in a circle": (
        tar(symlink("manifest.json", "m"), symlink("m", "manifest.json")), "has neither manifest"),
    "link to outside": (
        tar(symlink("manifest.json", "../../etc/passwd")), "it points outside the root"),
    "manifest of text": (tar(member("manifest.json", b"x")), "manifest.json is no JSON"),
    "manifest of an object": (
        tar(member("manifest.json", b"{}")), "manifest.json is no list of objects"),
    "manifest without layers": (
        docker_save(SMALL, manifest=[{"Config": "x"}]), "needs Config, Layers and RepoTags"),
    "config outside": (broken_manifest(Config="../../etc/passwd"), "points outside the root"),
    "config missing": (broken_manifest(Config="x.json"), 'the archive has no "x.json"'),
    "layer missing": (broken_manifest(Layers=["x"]), 'the archive has no "x", which it refers to'),
    "layers too few": (
        broken_manifest(Layers=[]),
        "invalid manifest, layers length mismatch: expected 1, got 0"),
    "config with another digest": (
        tar(member("0" * 64 + ".json", SMALL.document()), member("manifest.json",
            json.dumps([{"Config": "0" * 64 + ".json", "Layers": []}]).encode())),
        f"is damaged: its digest is {SMALL.id}"),
    "config of text": (
        tar(member("c", b"x"), member("manifest.json", b'[{"Config":"c","Layers":[]}]')),
        "is no JSON"),
    "layer with another digest": (docker_save(WRONG), "layer sha256:111111111111 is damaged: its"),
    "layer that is no tar": (
        docker_save(Image([b"text" * 500])), "is no tar archive: wrong checksum"),
    "layer that escapes": (
        docker_save(Image([BASE, tar(member("../../evil"))])),
        'entry "../../evil" is refused: it points outside the root'),
    "layer that writes through a link": (
        docker_save(Image([tar(symlink("l", "/tmp"), member("l/evil"))])),
        'entry "l/evil" is refused: it lies below a symbolic link'),
    "another system's image": (
        docker_save(Image([BASE], os="windows")), "cannot load windows image on linux"),
    "bad name": (docker_save(Image([BASE], ["Bad Name"])), "invalid reference format"),
    "second image bad": (
        docker_save(IMAGE, Image([b"bad"], ["x:2"])), "is no good tar archive: it is cut off"),
    "index of text": (tar(member("index.json", b"[]")), "index.json is no JSON object"),
    "index without images": (tar(member("index.json", b"{}")), "index.json lists no image"),
    "blob that is not its name": (damaged_blob(), "is damaged: its digest is sha256"),
    "nested too deep": (oci(deep_index), "indexes are nested deeper than 4"),
    "only other platforms": (
        oci(lambda layout: layout.manifest(SMALL, platform=ELSEWHERE)),
        f"no image for linux/{machine_architecture()}, only for linux/s390x"),
    "wrong size": (
        with_manifest(lambda it: it["layers"][0].update(size=7)), "bytes, not 7"),
    "odd digest": (
        with_manifest(lambda it: it["config"].update(digest="sha256:../../x")),
        '"sha256:../../x" is no sha256 digest'),
    "two readings": (
        with_manifest(lambda it: it.update(manifests=[])), "is an index and an image at once"),
    "no container image": (
        with_manifest(lambda it: it["config"].update(mediaType="application/vnd.helm")),
        '"application/vnd.helm" is no container image'),
    "encrypted": (
        with_manifest(lambda it: it["layers"][0].update(mediaType="x+encrypted")),
        "is encrypted"),
    "layers of text": (with_manifest(lambda it: it.update(layers="x")), "layers is no list of"),
    "layer blob missing": (
        with_manifest(lambda it: it["layers"][0].update(digest="sha256:" + "2" * 64)),
        "has no blob sha256:2222"),
}  # fmt: skip


@pytest.mark.parametrize(("archive", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(store: ImageStore, tmp_path: Path, archive: bytes, message: str) -> None:
    load(store, docker_save(Image([MIDDLE], ["kept"])))
    before = nodes(tmp_path)
    with pytest.raises(InvalidParameter) as caught:
        load(store, archive)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == sorted(path for path in before if path != ".")
    assert [image.references for image in store.summaries()] == [("kept:latest",)]


def test_reserved_name(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match='"host" is reserved'):
        load(store, docker_save(Image([BASE], ["host:latest"])))
    assert store.summaries() == []


def test_limits(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", limits=Limits(archive_bytes=20_000, entries=20))
    with pytest.raises(InvalidParameter, match="the archive holds more than 20000 bytes"):
        load(store, docker_save(Image([tar(member("f", b"x" * 30_000))])))
    bomb = gzip.compress(tar(member("f", bytes(1 << 20))))
    with pytest.raises(InvalidParameter, match=r"layer sha256:\w{12} holds more than 20000 bytes"):
        load(store, packed_layer(bomb))
    many = tar(*(member(f"f{number}") for number in range(25)), kind=tarfile.USTAR_FORMAT)
    with pytest.raises(InvalidParameter, match="more than 20 entries"):
        load(store, packed_layer(gzip.compress(many)))
    assert everything(tmp_path) == everything_of_an_empty_store()


def packed_layer(layer: bytes) -> bytes:
    image = Image([gzip.decompress(layer)])
    return tar(
        member("c", image.document()),
        member("l", layer),
        member("manifest.json", b'[{"Config":"c","Layers":["l"]}]'),
        kind=tarfile.USTAR_FORMAT,
    )


def everything_of_an_empty_store() -> list[str]:
    return ["images", "images/configs", "images/tmp", "images/trees"]
