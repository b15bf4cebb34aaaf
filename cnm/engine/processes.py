"""``docker top``: what ``ps`` says of a container's processes."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Collection

from cnm.errors import CNMError, InvalidParameter

_DEFAULT = "-ef"
_TIMEOUT_S = 10


def top(pids: Collection[int], arguments: str) -> dict[str, object]:
    """``Titles`` and ``Processes``, with the host's pids as Docker has them.

    :raises InvalidParameter: ps does not take the arguments, or shows no PID.
    """
    try:
        words = shlex.split(arguments or _DEFAULT)
        done = subprocess.run(
            ["ps", *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except ValueError as error:
        raise InvalidParameter(f"ps arguments {arguments}: {error}") from None
    except FileNotFoundError:
        raise CNMError("ps is not installed on the host") from None
    if done.returncode != 0:
        raise InvalidParameter(f"ps: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    return parse(done.stdout, pids)


def parse(text: str, pids: Collection[int]) -> dict[str, object]:
    """The rows of these pids. The last column takes the rest of its line."""
    titles, *rows = text.splitlines() or [""]
    names = titles.split()
    if "PID" not in names:
        raise InvalidParameter("Couldn't find PID field in ps output")
    at, last = names.index("PID"), len(names) - 1
    wanted = {str(pid) for pid in pids}
    cells = [row.split(None, last) for row in rows]
    return {
        "Titles": names,
        "Processes": [row for row in cells if row[at : at + 1] and row[at] in wanted],
    }
