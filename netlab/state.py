"""What is known of the labs that are up, apart from the kernel: a folder and a lock for each.

``/run/netlab/<lab>/`` is written before the kernel is touched, and goes last: ``lab.json`` (the
text of the lab file and where it was read) and ``log/<host>/``, which is ``/var/log`` on the
host. The lock lies beside it, ``<lab>.lock``: flock(2) on it ends with whoever holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cnm.netlab import groups, marks
from cnm.netlab.errors import LabBusy, LabNotFound
from cnm.netlab.labfile import loads
from cnm.netlab.model import Lab

_STRAGGLERS_S = 30.0  # what a killed netlab had asked for is finished by its spawner
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one lab."""

    lab: str

    @property
    def folder(self) -> Path:
        return marks.STATE_FOLDER / self.lab

    @property
    def _file(self) -> Path:
        return self.folder / "lab.json"

    @property
    def exists(self) -> bool:
        return self._file.exists()

    def log_folder(self, host: str) -> Path:
        """``/var/log`` of a host."""
        return self.folder / "log" / host

    def write(self, text: str, path: Path) -> None:
        """Keep the lab file's text and path."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = self.folder / "lab.json.new"
        fresh.write_text(json.dumps({"path": str(path), "text": text}), encoding="utf-8")
        fresh.rename(self._file)

    def read(self) -> Lab:
        """The lab as it was brought up.

        :raises LabNotFound: nothing of that name is up.
        """
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LabNotFound(no_lab(self.lab)) from None
        lab = loads(kept["text"], Path(kept["path"]), files=False)
        return replace(lab, name=self.lab)  # it may be up under another name than its file's

    def remove(self) -> None:
        """Forget the lab; the folder of all labs goes with the last one."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Have the lab to ourselves; the lock's descriptor, for a process that helps.

        :raises LabBusy: somebody else has it, and says who.
        """
        path = marks.STATE_FOLDER / f"{self.lab}.lock"
        descriptor = _take(path, self.lab)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}".encode(), 0)
            yield descriptor
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            os.close(descriptor)
            with contextlib.suppress(OSError):
                marks.STATE_FOLDER.rmdir()  # unless there are others


def known() -> set[str]:
    """Names of labs of which anything is there: state, hosts, or what a crash has left."""
    found = {holder.lab for holder in marks.holders()} | groups.labs()
    with contextlib.suppress(FileNotFoundError):
        found |= {path.name for path in marks.STATE_FOLDER.iterdir() if path.is_dir()}
    return found


def no_lab(name: str) -> str:
    """The error's text, with what is up."""
    up = ", ".join(sorted(known())) or "none is"
    return f'no lab "{name}" is up (up: {up})'


def _take(path: Path, lab: str) -> int:
    deadline = time.monotonic() + _STRAGGLERS_S
    while True:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the folder went with another lab
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(descriptor, path):
                return descriptor
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode()
            if _lives(pid) or time.monotonic() > deadline:
                os.close(descriptor)
                who = f" (pid {pid})" if pid else ""
                raise LabBusy(f"lab {lab}: another netlab{who} is at work on it: wait") from None
            time.sleep(_POLL_S)
        os.close(descriptor)


def _is_still_there(descriptor: int, path: Path) -> bool:
    """Whether the file was not removed between its opening and its lock."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _lives(pid: str) -> bool:
    """Whether the holder itself lives; what it started may still have the lock."""
    with contextlib.suppress(OSError, ValueError):
        return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
