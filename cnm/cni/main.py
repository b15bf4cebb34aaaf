"""``cnm-cni``: see the package."""

from __future__ import annotations

import json
import os
import signal
import sys

from cnm.cni.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError
from cnm.cni.invocation import LONGEST_INPUT, NEWEST, SUPPORTED, read

_DEADLINE_S = 100  # of the whole step: below the two minutes after which runtimes give up
_ABOUT = f"CNI plugin cnm-cni\nCNI protocol versions supported: {', '.join(SUPPORTED)}\n"


def main() -> int:
    """0, or 1 with an error object on standard output."""
    command = os.environ.get("CNI_COMMAND", "")
    if not command:  # somebody types it
        sys.stderr.write(_ABOUT)
        return 0 if sys.argv[1:] else 1
    if command == "VERSION":
        _print({"cniVersion": NEWEST, "supportedVersions": SUPPORTED})
        return 0
    text = b""
    try:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(_DEADLINE_S)
        text = sys.stdin.buffer.read(LONGEST_INPUT + 1)
        _print(_run(text))
    except CniError as error:
        _print(error.document(_version(text)))
        return 1
    except OSError as error:
        failed = CniError(IO_FAILURE, f"{error.strerror or error}")
        _print(failed.document(_version(text)))
        return 1
    return 0


def _run(text: bytes) -> dict[str, object] | None:
    from cnm.cni.verbs import Verbs  # VERSION and bad input need no client

    return Verbs(read(os.environ, text)).run()


def _too_long(number: int, frame: object) -> None:
    raise CniError(TRY_AGAIN_LATER, f"not done within {_DEADLINE_S} s")


def _version(text: bytes) -> str:
    """The caller's, if it can be read: an error is in its words."""
    try:
        version = json.loads(text)["cniVersion"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return NEWEST
    return version if version in SUPPORTED else NEWEST


def _print(document: object) -> None:
    if document is not None:
        sys.stdout.write(json.dumps(document, indent=4) + "\n")
        sys.stdout.flush()
