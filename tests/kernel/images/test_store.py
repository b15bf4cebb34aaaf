"""The store's verbs: import, images, tag, rmi, inspect, history, and what a start mends."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from kernel.images.trees import everything, merged, nodes
from unit.images.tars import Dribble, Image, docker_save, member, tar

from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound, StoreError
from cnm.imageapi import (
    ImageConfig,
    ImageDocuments,
    ImageID,
    ImageRemoval,
    Images,
    ImageSummary,
    ImageUser,
)
from cnm.runtime.container.imagestore import ImageStore

pytestmark = pytest.mark.kernel

ROOT = tar(member("bin/sh", b"not really"))
NOW = 1_700_000_000_000_000_001


def nobody(image_id: ImageID) -> list[ImageUser]:
    return []


def somebody(image_id: ImageID) -> list[ImageUser]:
    return [ImageUser("c1" * 32, running=True)]


def bring(store: ImageStore, name: str, data: bytes = ROOT) -> ImageID:
    return store.import_tar(Dribble(data), name)


def test_contracts(store: ImageStore) -> None:
    assert isinstance(store, Images)
    assert isinstance(store, ImageDocuments)


def test_import(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "i", now_ns=lambda: NOW)
    changes = ['CMD ["sh"]', "ENV A=1", "LABEL l=v"]
    image_id = store.import_tar(Dribble(ROOT), "x", changes=changes, message="from a test")
    assert store.config(image_id) == ImageConfig(cmd=("sh",), env=("A=1",), labels={"l": "v"})
    assert store.summaries() == [ImageSummary(image_id, ("x:latest",), NOW, 10, {"l": "v"})]
    [lower] = store.lower_directories(image_id)
    assert (Path(lower) / "bin/sh").read_text() == "not really"
    document = store.inspect("x")
    assert document["Id"] == image_id
    assert document["RepoTags"] == ["x:latest"]
    assert document["Created"] == "2023-11-14T22:13:20.000000001Z"
    assert document["Comment"] == "from a test"
    assert document["Size"] == 10
    assert document["Config"]["Cmd"] == ["sh"]
    assert document["RootFS"]["Type"] == "layers"
    assert document["GraphDriver"]["Data"] == {"UpperDir": lower}
    [step] = store.history("x")
    assert (step["Id"], step["Size"], step["Comment"]) == (image_id, 10, "from a test")
    assert ImageStore(tmp_path / "i").summaries() == store.summaries()


def test_busybox_runs(store: ImageStore) -> None:
    """An image of Debian's busybox-static, entered through a real overlay mount."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        archive.add(Path(shutil.which("busybox") or "/bin/busybox").resolve(), "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
    image_id = bring(store, "busybox", buffer.getvalue())
    script = "chroot . /bin/sh -c 'echo made > /made; read x < /made; echo $x; echo $((6*7))'"
    assert merged(store.lower_directories(image_id), script).split() == ["made", "42"]
    # the layer below stays as it was
    assert not (Path(store.lower_directories(image_id)[0]) / "made").exists()


@pytest.mark.parametrize(
    ("name", "changes", "data", "error", "message"),
    [
        ("Bad", [], ROOT, InvalidParameter, "must be lowercase"),
        ("host", [], ROOT, Forbidden, '"host" is reserved'),
        ("host:v1", [], ROOT, Forbidden, '"host" is reserved'),
        ("x@sha256:" + "0" * 64, [], ROOT, InvalidParameter, "cannot import digest reference"),
        ("x", ["FROM y"], ROOT, InvalidParameter, "FROM is not a valid change command"),
        ("x", [], b"no tar" * 200, InvalidParameter, "the archive is no tar archive"),
        ("x", [], tar(member("../x")), InvalidParameter, 'the archive: entry "../x" is refused'),
        ("x", [], b"\x28\xb5\x2f\xfd", InvalidParameter, "the archive.* zstd|the archive"),
    ],
)  # fmt: skip
def test_import_refused(
    store: ImageStore,
    tmp_path: Path,
    name: str,
    changes: list[str],
    data: bytes,
    error: type[Exception],
    message: str,
) -> None:
    before = everything(tmp_path)
    with pytest.raises(error, match=message):
        store.import_tar(Dribble(data), name, changes=changes)
    assert everything(tmp_path) == before


def test_a_stream_that_breaks_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    class Breaking(Dribble):
        def read(self, size: int, /) -> bytes:
            if not (data := super().read(size)):
                raise ConnectionResetError(104, "Connection reset by peer")
            return data

    before = everything(tmp_path)
    with pytest.raises(Exception, match="read the archive: Connection reset by peer"):
        store.import_tar(Breaking(ROOT[:700]), "x")
    assert everything(tmp_path) == before


def test_names_move_and_leave_images_dangling(store: ImageStore) -> None:
    first = bring(store, "x")
    second = bring(store, "x", tar(member("other")))
    assert store.find("x") == second
    assert {image.id: image.references for image in store.summaries()} == {
        first: (),
        second: ("x:latest",),
    }
    assert store.inspect(first)["RepoTags"] == []


def test_find(store: ImageStore) -> None:
    image_id = bring(store, "user/x:1")
    for name in (image_id, image_id[7:], image_id[7:19], image_id[:20], "docker.io/user/x:1",
                 f"user/x@{image_id}"):  # fmt: skip
        assert store.find(name) == image_id


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", "x:latest"),
        ("docker.io/library/x:2", "x:2"),
        ("0" * 64, "sha256:" + "0" * 64),
        ("ffff", "ffff:latest"),
        ("x@sha256:" + "0" * 64, "x@sha256:" + "0" * 64),
        ("host:other", "host:other"),
    ],
)
def test_no_such_image(store: ImageStore, name: str, text: str) -> None:
    for call in (store.find, store.inspect, store.history, lambda it: store.remove(it, nobody)):
        with pytest.raises(NotFound) as caught:
            call(name)
        assert str(caught.value) == f"No such image: {text}"


def test_ambiguous_prefix(store: ImageStore) -> None:
    ids: dict[str, list[str]] = {}
    for number in range(40):
        image_id = bring(store, "", tar(member(f"f{number}")))
        ids.setdefault(image_id[7], []).append(image_id)
        if len(ids[image_id[7]]) == 2:
            break
    digit = image_id[7]
    with pytest.raises(InvalidParameter) as caught:
        store.find(digit)
    assert str(caught.value) == f"image {digit} is ambiguous (2 matches found based on ID prefix)"


def test_tag(store: ImageStore) -> None:
    image_id = bring(store, "x")
    store.tag("x", "user/y:2")
    assert store.summaries()[0].references == ("user/y:2", "x:latest")
    assert store.find("user/y:2") == image_id
    with pytest.raises(InvalidParameter, match="refusing to create a tag with a digest reference"):
        store.tag("x", f"y@{image_id}")
    with pytest.raises(Forbidden, match='"host" is reserved'):
        store.tag("x", "host")
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        store.tag("nope", "z")


def test_remove(store: ImageStore, tmp_path: Path) -> None:
    empty = everything(tmp_path)
    image_id = bring(store, "x:1")
    store.tag("x:1", "x:2")
    assert store.remove("x:1", somebody) == ImageRemoval(("x:1",))
    with pytest.raises(Conflict, match='remove repository reference "x:2".*container c1c1c1c1c1c1'):
        store.remove("x:2", somebody)
    assert store.remove("x:2", nobody) == ImageRemoval(("x:2",), (image_id,))
    with pytest.raises(NotFound):
        store.config(image_id)
    with pytest.raises(NotFound):
        store.lower_directories(image_id)
    assert everything(tmp_path) == sorted([*empty, "images/index.json"])


def test_remove_by_id(store: ImageStore) -> None:
    image_id = bring(store, "x:1")
    store.tag("x:1", "y:1")
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        store.remove(image_id[7:19], nobody)
    with pytest.raises(Conflict, match="image is being used by running container c1c1c1c1c1c1"):
        store.remove(image_id[7:19], somebody, force=True)
    removal = store.remove(image_id[7:19], nobody, force=True)
    assert removal == ImageRemoval(("x:1", "y:1"), (image_id,))


def test_shared_layers_stay(store: ImageStore) -> None:
    top = tar(member("top"))
    store.load(Dribble(docker_save(Image([ROOT], ["a"]), Image([ROOT, top], ["b"]))))
    [shared] = store.lower_directories(store.find("a"))
    store.remove("a", nobody)
    assert store.lower_directories(store.find("b"))[-1] == shared
    assert Path(shared, "bin/sh").exists()
    store.remove("b", nobody)
    assert not Path(shared).exists()


def test_host(store: ImageStore) -> None:
    host = store.find("host")
    assert store.find("host:latest") == store.find(host) == host
    assert store.lower_directories(host) == ["/"]
    assert store.config(host).cmd == ("/bin/sh",)
    assert store.inspect("host")["RepoTags"] == ["host:latest"]
    assert len(store.history("host")) == 1
    assert store.summaries() == []
    with pytest.raises(Conflict, match="the machine's own root file system"):
        store.remove("host", nobody)
    with pytest.raises(InvalidParameter, match="cannot have further names"):
        store.tag("host", "x")


def test_history_of_layers(store: ImageStore) -> None:
    steps = [
        {"created": "2024-05-01T10:00:00Z", "created_by": "ADD"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "COPY", "comment": "c"},
    ]
    layers = [ROOT, tar(member("f", b"x" * 5))]
    store.load(Dribble(docker_save(Image(layers, ["x"], changes={"history": steps}))))
    found = [(step["CreatedBy"], step["Size"]) for step in store.history("x")]
    assert found == [("COPY", 5), ("ENV", 0), ("ADD", 10)]


def test_parallel_loads_and_removals(store: ImageStore) -> None:
    """Loads that share layers, while others take those layers away."""
    top = [tar(member(f"f{number}")) for number in range(4)]
    archives = [docker_save(Image([ROOT, layer], [f"x:{n}"])) for n, layer in enumerate(top)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                store.load(Dribble(archives[number], 1 << 16))
                assert Path(
                    store.lower_directories(store.find(f"x:{number}"))[-1], "bin/sh"
                ).exists()
                store.remove(f"x:{number}", nobody)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.summaries() == []


def test_a_start_removes_leftovers_and_broken_images(tmp_path: Path) -> None:
    root = tmp_path / "images"
    store = ImageStore(root)
    good, no_layer = bring(store, "good"), bring(store, "no-layer", tar(member("a")))
    no_config = bring(store, "no-config", tar(member("b")))
    bad_config = bring(store, "bad-config", tar(member("c")))
    kept = nodes(Path(store.lower_directories(good)[0]))
    shutil.rmtree(store.lower_directories(no_layer)[0])
    (root / "configs" / no_config[7:]).unlink()
    (root / "configs" / bad_config[7:]).write_bytes(b"{}")
    (root / "tmp/x").mkdir()
    (root / "tmp/x/y").write_text("left")
    (root / "trees/99").mkdir()
    (root / "configs/0").write_text("left")

    again = ImageStore(root)
    assert [image.references for image in again.summaries()] == [("good:latest",)]
    assert nodes(Path(again.lower_directories(good)[0])) == kept
    told = "\n".join(str(repair) for repair in again.repairs)
    for text in (
        "tmp/x",
        "trees/99",
        "configs/0",
        "(no-layer:latest): layer sha256:",
        "(no-config:latest)",
        "(bad-config:latest): its configuration is damaged",
    ):
        assert text in told
    assert ImageStore(root).repairs == ()
    assert len(list((root / "trees").iterdir())) == len(list((root / "configs").iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: move the directory"),
        ("[]", "is damaged: move the directory"),
        ('{"version":1,"images":{"a":5}}', "is damaged: move the directory"),
        ('{"version":2,"news":{}}', "was written by a newer version of cnm"),
    ],
)
def test_a_damaged_index_is_left_alone(tmp_path: Path, text: str, message: str) -> None:
    root = tmp_path / "images"
    bring(ImageStore(root), "x")
    (root / "index.json").write_text(text)
    before = nodes(tmp_path)
    with pytest.raises(StoreError, match=message):
        ImageStore(root)
    assert nodes(tmp_path) == before


def test_others_cannot_look_inside(tmp_path: Path) -> None:
    root = tmp_path / "images"
    bring(ImageStore(root), "x")
    assert root.stat().st_mode & 0o077 == 0


def test_the_index_is_json(tmp_path: Path) -> None:
    """What support would look at first."""
    image_id = bring(ImageStore(tmp_path), "x")
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["references"] == {"x:latest": image_id}


def test_a_full_disk(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", tmp_path], check=True)
    try:
        store = ImageStore(tmp_path / "images")
        before = everything(tmp_path)
        with pytest.raises(Exception, match="No space left on device"):
            bring(store, "x", tar(member("big", b"x" * 500_000)))
        assert everything(tmp_path) == before
    finally:
        subprocess.run(["umount", tmp_path], check=True)
