"""One more file in an initramfs: a second archive behind the first, as the kernel allows.

Format: cpio "newc" (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

from pathlib import Path

_TRAILER = "TRAILER!!!"


def append_program(archive: Path, name: str, text: str) -> None:
    """Add an executable file to the archive, which may be compressed or not."""
    more = _entry(name, text.encode(), mode=0o100755) + _entry(_TRAILER, b"", mode=0)
    with archive.open("ab") as file:
        file.write(b"\0" * (-file.tell() % 4) + more)


def _entry(name: str, content: bytes, mode: int) -> bytes:
    fields = [
        *(1, mode, 0, 0, 1, 0),  # inode, mode, owner, group, links, time
        len(content),
        *(0, 0, 0, 0),  # devices
        len(name) + 1,
        0,  # checksum: none in this format
    ]
    head = b"070701" + b"".join(f"{field:08x}".encode() for field in fields)
    return _padded(head + name.encode() + b"\0") + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
