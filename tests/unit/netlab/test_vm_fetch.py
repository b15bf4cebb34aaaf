"""Fetching a kernel: the real apt and dpkg, on a small archive of packages of our own."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnm.netlab.errors import VMError
from cnm.netlab.vmkernel import Kernel, cached_kernel, ensure_kernel

IMAGE = "linux-image-9.9.9-1-amd64"
RELEASE = "9.9.9-1-amd64"


class Archive:
    """A Debian archive in a folder, and an apt that knows no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "archive"
        self.packages.mkdir()
        self.cache = folder / "cache"
        for name in ("lists/partial", "apt-cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(f"deb [trusted=yes] file:{self.packages} ./\n")
        self.config = folder / "apt.conf"
        self.config.write_text(
            f'Dir::State "{folder}"; Dir::State::status "{folder}/status";\n'
            f'Dir::Cache "{folder}/apt-cache";\n'
            f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
            f'Dir::Etc::sourceparts "{folder}/parts";\n'
            'APT::Architecture "amd64"; APT::Architectures { "amd64"; };\n'
            'APT::Sandbox::User "root";\n'
        )

    def environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self.config)}

    def fill(self, version: str = "9.9.9-1") -> None:
        """The two packages, as Debian has them."""
        (self.folder / "content/boot").mkdir(parents=True, exist_ok=True)
        (self.folder / "content/boot" / f"vmlinuz-{RELEASE}").write_text("a kernel")
        modules = self.folder / "content/lib/modules" / RELEASE
        modules.mkdir(parents=True, exist_ok=True)
        for name in ("modules.order", "modules.builtin"):
            (modules / name).touch()
        stanzas = [
            self._package(IMAGE, version, self.folder / "content", ""),
            self._package(
                "linux-image-amd64", version, self.folder / "nothing", f"{IMAGE} (= {version})"
            ),
        ]
        text = "\n".join(stanzas).encode()
        (self.packages / "Packages").write_bytes(text)
        (self.packages / "Packages.gz").write_bytes(gzip.compress(text))

    def _package(self, name: str, version: str, content: Path, depends: str) -> str:
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            f"Maintainer: nobody <nobody@example.org>\nDescription: for a test\n"
        ) + (f"Depends: {depends}\n" if depends else "")
        (content / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (content / "DEBIAN/control").write_text(control)
        file = self.packages / f"{name}_{version}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", str(content), str(file)],
            check=True,
            capture_output=True,
        )
        data = file.read_bytes()
        return (
            f"{control}Filename: ./{file.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )

    def update(self) -> None:
        subprocess.run(
            ["apt-get", "-q", "update"], env=self.environment(), check=True, capture_output=True
        )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive(tmp_path)
    made.fill()
    monkeypatch.setenv("APT_CONFIG", str(made.config))
    return made


def fetch(archive: Archive, *, update: bool = False) -> tuple[Kernel, list[str]]:
    told: list[str] = []
    return ensure_kernel(archive.cache, told.append, update=update), told


def test_fetched_once(archive: Archive) -> None:
    archive.update()
    kernel, told = fetch(archive)
    assert (kernel.package, kernel.version, kernel.release) == (IMAGE, "9.9.9-1", RELEASE)
    file = next(archive.packages.glob(f"{IMAGE}*.deb"))
    assert kernel.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert kernel.image.read_text() == "a kernel"
    assert (kernel.modules / "modules.dep").exists()
    assert len(told) == 1
    assert IMAGE in told[0]
    file.unlink()
    assert fetch(archive) == (kernel, [])


def test_without_lists_of_the_machine_its_own_are_fetched(archive: Archive) -> None:
    kernel, told = fetch(archive)
    assert kernel.package == IMAGE
    assert any("lists" in line for line in told)
    assert not list((archive.folder / "lists").glob("*Packages*")), "the machine's are untouched"


def test_an_update_and_no_update(archive: Archive) -> None:
    archive.update()
    old, _ = fetch(archive)
    archive.fill(version="9.9.9-2")
    archive.update()
    assert fetch(archive)[0] == old
    new, _ = fetch(archive, update=True)
    assert new.version == "9.9.9-2"
    assert fetch(archive)[0] == new


def test_a_damaged_package_is_refused(archive: Archive) -> None:
    archive.update()
    file = next(archive.packages.glob(f"{IMAGE}*.deb"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(VMError, match="apt-get"):
        fetch(archive)
    assert cached_kernel(archive.cache) is None
    assert not list(archive.cache.glob("half-*"))


def test_no_such_package(archive: Archive) -> None:
    (archive.packages / "Packages").write_text("")
    (archive.packages / "Packages.gz").write_bytes(gzip.compress(b""))
    archive.update()
    with pytest.raises(VMError, match="linux-image-amd64"):
        fetch(archive)


def test_two_at_once_fetch_once(archive: Archive) -> None:
    archive.update()
    with ThreadPoolExecutor(2) as pool:
        (one, told), (two, told_too) = pool.map(fetch, [archive, archive])
    assert one == two
    assert len(told + told_too) == 1


def test_killed_in_the_middle(archive: Archive) -> None:
    """Killed while it unpacks: nothing looks like a kernel, and the next fetch works."""
    archive.update()
    tools = archive.folder / "tools"
    tools.mkdir()
    depmod = tools / "depmod"
    depmod.write_text("#!/bin/sh\ntouch ../../../stopped\nexec sleep 1d\n")
    depmod.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from cnm.netlab.vmkernel import ensure_kernel;"
        "ensure_kernel(Path(sys.argv[1]), print)"
    )
    environment = {**archive.environment(), "PATH": f"{tools}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(archive.cache)],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (archive.folder / "stopped").exists():
        assert time.monotonic() < deadline, "waited for depmod"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(archive.cache.glob("half-*"))) == 1
    assert cached_kernel(archive.cache) is None
    kernel, _ = fetch(archive)
    assert kernel.modules.is_dir()
    assert not list(archive.cache.glob("half-*"))
