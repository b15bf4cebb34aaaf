"""Waiting for a container's end, begun before the end can happen."""

from __future__ import annotations

import json
import sys

from cnm.cli.client import Client, segment

NEXT_EXIT = "next-exit"
REMOVED = "removed"
_FAILED = 125


class Waiting:
    """One wait. The daemon has acknowledged it: an exit from now on is not missed."""

    def __init__(self, client: Client, identifier: str, condition: str | None = None) -> None:
        path = f"/containers/{segment(identifier, 'container')}/wait"
        self._client = client
        self._response = client.open("POST", path, condition=condition)

    def result(self) -> tuple[int, str]:
        """The exit status, and what went wrong while waiting (empty: nothing).

        :raises CommandError: when the daemon breaks off.
        """
        content = b"".join(self._client.pieces(self._response))
        try:
            answer = json.loads(content)
        except ValueError:
            return _FAILED, content.decode(errors="replace").strip() or "no answer"
        error = answer.get("Error")
        return int(answer.get("StatusCode", 0)), str(error["Message"]) if error else ""

    def status(self) -> int:
        """The exit status to end with; says on stderr if it cannot be told."""
        code, problem = self.result()
        if not problem:
            return code
        sys.stderr.write(f"Error waiting for container: {problem}\n")
        return _FAILED

    def close(self) -> None:
        """Waits no longer."""
        self._response.close()
