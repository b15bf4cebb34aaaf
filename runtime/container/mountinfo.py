"""The text of ``/proc/self/mountinfo`` (proc(5)). Pure."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\([0-7]{3})")


def holder(text: str, path: str) -> tuple[str, bool]:
    """The mount point that a path lies on, and whether mounts come there from elsewhere.

    ``path`` is absolute and has no links in it.
    """
    found, propagates = "/", False
    for line in text.splitlines():
        fields = line.partition(" - ")[0].split(" ")
        mountpoint = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        below = mountpoint == "/" or path == mountpoint or path.startswith(f"{mountpoint}/")
        if below and len(mountpoint) >= len(found):  # the last of several at one place is on top
            found = mountpoint
            propagates = any(word.startswith(("shared:", "master:")) for word in fields[6:])
    return found, propagates
