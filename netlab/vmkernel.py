"""The second kernel: Debian's own, fetched once, unpacked into a cache, never installed.

``linux-image-amd64`` depends on the package with the newest kernel; that one is downloaded by
apt, which checks it against Debian's signatures, and unpacked with ``dpkg-deb``. Its scripts
are not run: they would build an initramfs and touch ``/boot``. The ``cloud`` flavour is
smaller but has no 9p, by which the machine's files come in.

What is in the cache is used without asking the network. A kernel is unpacked beside its final
place and then renamed, under a lock: half a fetch never looks like a whole one, and two at
once fetch once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import lzma
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cnm.netlab.errors import VMError

_META_PACKAGE = "linux-image-amd64"
_MANIFEST = "manifest.json"
_HALF_DONE = "half-"
_FETCH_TIMEOUT_S = 900  # 70 MB, and perhaps apt's lists
_UNPACK_TIMEOUT_S = 300
_MORE_PATH = "/usr/sbin:/sbin"  # where depmod is; not on every user's path
_XZ_MAGIC = b"\xfd7zXZ\x00"
_ELF_MAGIC = b"\x7fELF"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted. ``root`` holds ``boot/`` and ``lib/modules/<release>``."""

    root: Path
    release: str
    package: str = ""
    version: str = ""
    sha256: str = ""  # of Debian's package

    @property
    def image(self) -> Path:
        """As Debian packs it: what virtme-ng looks at."""
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def boot_image(self) -> Path:
        """What is booted: unpacked, if that was possible, else the packed one."""
        unpacked = self.root / "boot" / f"vmlinux-{self.release}"
        return unpacked if unpacked.exists() else self.image

    @property
    def modules(self) -> Path:
        """The folder of its modules."""
        return self.root / "lib" / "modules" / self.release


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/cnm/kernels``; safe to delete while no VM runs."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "cnm" / "kernels"


def cached_kernel(folder: Path) -> Kernel | None:
    """The one fetched last; ``None`` if there is none."""
    manifests = sorted(folder.glob(f"*/{_MANIFEST}"), key=lambda path: path.stat().st_mtime)
    return _read_manifest(manifests[-1]) if manifests else None


def _read_manifest(path: Path) -> Kernel:
    said = json.loads(path.read_text(encoding="utf-8"))
    return Kernel(root=path.parent, **said)


def kernel_in(root: Path) -> Kernel:
    """A kernel that somebody unpacked: ``root/boot/vmlinuz-RELEASE`` and its modules.

    :raises VMError: there is none, or it has no modules.
    """
    images = sorted(root.glob("boot/vmlinuz-*"))
    if not images:
        raise VMError(f"no kernel in {root}: looked for boot/vmlinuz-VERSION")
    found = Kernel(root=root.resolve(), release=images[-1].name.removeprefix("vmlinuz-"))
    if not (root / "usr/lib/modules" / found.release).is_dir() and not found.modules.is_dir():
        raise VMError(f"no modules of {found.release} in {root}: looked in lib/modules")
    return found


def ensure_kernel(folder: Path, tell: Tell, *, update: bool = False) -> Kernel:
    """The cached kernel, or with none (or with ``update``) the one that Debian offers now.

    :raises VMError: there is none for this machine, or it cannot be fetched.
    """
    check_machine()
    if not update and (found := cached_kernel(folder)):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not update and (found := cached_kernel(folder)):
            return found  # somebody else has just fetched it
        _remove_half_done(folder)
        return _fetch(folder, tell)


def check_machine() -> None:
    """:raises VMError: a processor that this is not made for."""
    if platform.machine() != "x86_64":
        raise VMError(f"the VM lab is not supported on {platform.machine()}: x86_64 only")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_half_done(folder: Path) -> None:
    """Of fetches that were killed: nobody else fetches while we have the lock."""
    for left in folder.glob(f"{_HALF_DONE}*"):
        shutil.rmtree(left)


def _fetch(folder: Path, tell: Tell) -> Kernel:
    work = Path(tempfile.mkdtemp(prefix=_HALF_DONE, dir=folder))
    try:
        archive = _download(work, folder / "apt", tell)
        root = work / "root"
        _run(["dpkg-deb", "-x", str(archive), str(root)], work, _UNPACK_TIMEOUT_S)
        kernel = _prepared(root, archive)
        archive.unlink()
        place = folder / f"{kernel.package}_{kernel.version}"
        shutil.rmtree(place, ignore_errors=True)  # an update to what is there already
        root.rename(place)
        return _read_manifest(place / _MANIFEST)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(work: Path, own_apt: Path, tell: Tell) -> Path:
    """By the machine's own apt lists; if they are missing or too old, by lists of our own."""
    if shutil.which("apt-get") is None:
        raise VMError("apt-get is not installed: give a kernel of your own with --kernel")
    own_lists = [f"-oDir::State::lists={own_apt}/lists", f"-oDir::Cache={own_apt}"]
    try:
        return _download_with([], work, tell)
    except VMError:
        tell("apt's lists are missing or old: fetching them, for this only")
        (own_apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "-q", *own_lists, "update"], work, _FETCH_TIMEOUT_S)
        return _download_with(own_lists, work, tell)


def _download_with(options: Sequence[str], work: Path, tell: Tell) -> Path:
    package = _newest_package(_run(["apt-cache", *options, "show", _META_PACKAGE], work, 60))
    tell(f"fetching Debian's kernel, once: {package} (70 MB)")
    # As root apt would drop to a user that cannot write here, and warn.
    sandbox = "-oAPT::Sandbox::User=root"
    _run(["apt-get", "-q", sandbox, *options, "download", package], work, _FETCH_TIMEOUT_S)
    return next(work.glob("*.deb"))


def _newest_package(shown: str) -> str:
    """The kernel's package from what apt-cache shows of the meta package, newest first."""
    for line in shown.splitlines():
        if line.startswith("Depends:"):
            names = [word.strip().split(" ")[0] for word in line[8:].split(",")]
            kernels = [name for name in names if name.startswith("linux-image-")]
            if kernels:
                return kernels[0]
    raise VMError(f"{_META_PACKAGE}: apt knows no such package; is this Debian?")


def _prepared(root: Path, archive: Path) -> Kernel:
    """Make an unpacked kernel ready to boot and write down what it is."""
    kernel = kernel_in(root)
    _both_module_paths(root)
    _run(["depmod", "-b", str(root), kernel.release], root, _UNPACK_TIMEOUT_S)
    _unpack_image(kernel.image)
    name, version, _ = archive.name.split("_", 2)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    said = Kernel(root, kernel.release, name, version.replace("%3a", ":"), digest)
    fields = {key: value for key, value in asdict(said).items() if key != "root"}
    (root / _MANIFEST).write_text(json.dumps(fields, indent=1), encoding="utf-8")
    return said


def _both_module_paths(root: Path) -> None:
    """Modules are in lib/ or in usr/lib/, and kmod looks in one of them, by Debian's release."""
    plain, merged = root / "lib" / "modules", root / "usr" / "lib" / "modules"
    for there, missing in ((plain, merged), (merged, plain)):
        if there.is_dir() and not missing.exists():
            missing.parent.mkdir(parents=True, exist_ok=True)
            missing.symlink_to(os.path.relpath(there, missing.parent))
            return


def _unpack_image(image: Path) -> None:
    """The ELF file within ``vmlinuz``: unpacking it takes 3 s at each boot under emulation.

    QEMU boots an ELF file that has a PVH entry, as Debian's has. Only what Python can unpack
    (xz) is; else ``vmlinuz`` is booted.
    """
    packed = image.read_bytes()
    start = packed.find(_XZ_MAGIC)
    if start < 0:
        return
    with suppress(lzma.LZMAError):
        plain = lzma.LZMADecompressor().decompress(packed[start:])
        if plain.startswith(_ELF_MAGIC):
            image.with_name(image.name.replace("vmlinuz", "vmlinux")).write_bytes(plain)


def _run(command: Sequence[str], cwd: Path, timeout_s: float) -> str:
    path = f"{os.environ.get('PATH', '')}:{_MORE_PATH}"
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except FileNotFoundError:
        raise VMError(f"{command[0]} is not installed: the VM lab needs Debian's tools") from None
    except subprocess.TimeoutExpired:
        raise VMError(f"{command[0]} did not end within {timeout_s:.0f} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        words = " ".join(word for word in command if not word.startswith("-"))
        raise VMError(f"{words}: exit status {done.returncode}: {said[-1]}")
    return done.stdout
