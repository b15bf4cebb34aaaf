"""Failures as the specification has them: a number, a line, and perhaps more."""

from __future__ import annotations

from typing import Any

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
CANNOT_DECODE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50  # STATUS: the plugin cannot serve ADD
REFUSED = 100  # ours: the daemon could not do it
DIFFERS = 101  # ours: CHECK found something missing


class CniError(Exception):
    """``code`` is the specification's, or from 100 on ours."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def document(self, version: str) -> dict[str, Any]:
        """The error object."""
        told = {"cniVersion": version, "code": self.code, "msg": str(self)}
        return {**told, "details": self.details} if self.details else told
