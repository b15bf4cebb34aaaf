"""Kills a process at each change that it makes to an image store, and looks what is left.

A program of its own, because it forks: ``python killed.py FOLDER VERB``. It prints one
line for each step at which the verb was killed, with what the next start repaired, and
ends with ``survived`` when the verb had no further step. Anything wrong ends it with a
traceback.

Steps are Python's audit events of system calls that change files: the kill comes
before the call, so together the steps show the state after each one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unit.images.tars import Dribble, Image, directory, docker_save, member, symlink, tar

from cnm.imageapi import ImageID
from cnm.runtime.container.imagestore import ImageStore

EVENTS = {
    *("open", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename"),
    *("os.rmdir", "os.setxattr", "os.symlink", "os.truncate", "os.utime"),
}
BASE = tar(directory("d"), member("d/f", b"x" * 100), symlink("l", "d"))
TOP = tar(member("d/.wh.f"), member("d/g", b"y"), member("e/.wh..wh..opq"))
TWO = docker_save(Image([BASE, TOP], ["two:1", "two:2"]), Image([BASE], ["one"]))

State = tuple[frozenset[tuple[str, ImageID]], frozenset[tuple[str, ...]]]


Step = Callable[[ImageStore], object]


def load(store: ImageStore) -> None:
    store.load(Dribble(TWO))


VERBS: dict[str, tuple[list[Step], list[Step]]] = {  # before, and what is killed
    "import": ([], [lambda store: store.import_tar(Dribble(BASE), "imported")]),
    "load": ([], [load]),
    "tag": ([], [lambda store: store.tag("kept", "again")]),
    "remove": (
        [load],
        [
            lambda store: store.remove("two:1", lambda _: []),
            lambda store: store.remove("two:2", lambda _: []),
        ],
    ),
}


def state(store: ImageStore) -> State:
    """Names, and for each image the files that its layers have: all that a user sees."""
    images = store.summaries()
    names = frozenset((name, image.id) for image in images for name in image.references)
    trees = (Path(path) for image in images for path in store.lower_directories(image.id))
    return names, frozenset(
        tuple(sorted(f"{path.name} {path.lstat().st_size}" for path in tree.rglob("*")))
        for tree in trees
    )


def check_clean(root: Path, store: ImageStore) -> None:
    """No file that the store does not account for."""
    images = store.summaries()
    trees = {Path(path).name for image in images for path in store.lower_directories(image.id)}
    assert {path.name for path in (root / "trees").iterdir()} == trees
    assert {path.name for path in (root / "configs").iterdir()} == {it.id[7:] for it in images}
    assert list((root / "tmp").iterdir()) == []
    assert ImageStore(root).repairs == ()


def run_killed(root: Path, steps: Sequence[Step], when: int) -> bool:
    """Take the steps in a child that dies at its Nth change; whether it did."""
    child = os.fork()
    if child == 0:
        store = open_store(root)
        changes = 0

        def count(event: str, arguments: object) -> None:
            nonlocal changes
            if event in EVENTS:
                changes += 1
                if changes == when:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        for step in steps:
            step(store)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def open_store(root: Path) -> ImageStore:
    """With a clock that stands still, so that ids are the same each time."""
    return ImageStore(root, now_ns=lambda: 10**18)


def copy(source: Path, target: Path) -> Path:
    """With whiteouts and attributes."""
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


def main(folder: Path, name: str) -> None:
    before, steps = VERBS[name]
    template = folder / "template"
    store = ImageStore(template)
    store.import_tar(Dribble(tar(member("kept", b"kept"))), "kept")
    for step in before:
        step(store)
    allowed = [state(store)]
    changed = open_store(copy(template, folder / "after"))
    for step in steps:
        step(changed)
        allowed.append(state(changed))
    when, killed = 0, True
    while killed:
        when += 1
        root = copy(template, folder / "store")
        killed = run_killed(root, steps, when)
        store = ImageStore(root)
        found = state(store)
        assert found in (allowed if killed else allowed[-1:]), (when, found)
        check_clean(root, store)
        print(when, "killed" if killed else "survived", *store.repairs, sep="; ")  # noqa: T201
        shutil.rmtree(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
