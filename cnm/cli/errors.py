"""What ends a command early: a message for stderr and an exit status.

Every failure that a user can cause or meet is one of these; ``main`` prints the
message and returns the status. Statuses are Docker's: 1 for what the daemon or
the command refuses, 125 for a flag that cannot be read, 64 for a template of
``inspect`` that cannot be read.
"""

from __future__ import annotations


class CommandError(Exception):
    """A command failed. ``status`` is the exit status; an empty message prints nothing."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class FlagError(CommandError):
    """A flag is unknown, lacks its argument, or has a malformed one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=125)


class ConnectionFailed(CommandError):
    """The daemon cannot be reached; says at which address and how to start it."""


class ConnectionLost(CommandError):
    """The connection to the daemon broke, or its answer did: whether it was done, nobody tells."""


class DaemonError(CommandError):
    """The daemon answered with an error. ``code`` is the HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.code = code


class TemplateError(CommandError):
    """A ``--format`` template is malformed, or does not fit what it is given."""

    def __init__(self, message: str) -> None:
        super().__init__(f"template parsing error: template: {message}")
