"""Restart policies: whether and when a container that ended is started again. Pure."""

from __future__ import annotations

from cnm.containerapi import RestartMode, RestartPolicy
from cnm.errors import InvalidParameter

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
HEALTHY_AFTER_S = 10.0  # up this long: the next failure starts with the first delay again


def policy(name: str, maximum_retries: int = 0) -> RestartPolicy:
    """``no``, ``always``, ``unless-stopped`` or ``on-failure``; empty is no.

    :raises InvalidParameter: with Docker's text.
    """
    try:
        mode = RestartMode(name or "no")
    except ValueError:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always',"
            " 'on-failure', or 'unless-stopped'"
        ) from None
    if maximum_retries and mode is not RestartMode.ON_FAILURE:
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if maximum_retries < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    return RestartPolicy(mode, maximum_retries)


def next_delay(previous_s: float, ran_for_s: float) -> float:
    """Seconds to wait before the next start; ``previous_s`` is the last delay, 0 at first."""
    if previous_s <= 0 or ran_for_s >= HEALTHY_AFTER_S:
        return FIRST_DELAY_S
    return min(previous_s * 2, LONGEST_DELAY_S)


def should_restart(
    wanted: RestartPolicy, exit_code: int, restarts: int, *, stopped_by_user: bool
) -> bool:
    """Whether a container that just ended starts again; ``restarts`` so far in a row."""
    if stopped_by_user:
        return False
    match wanted.mode:
        case RestartMode.ALWAYS | RestartMode.UNLESS_STOPPED:
            return True
        case RestartMode.ON_FAILURE:
            left = not wanted.maximum_retries or restarts < wanted.maximum_retries
            return exit_code != 0 and left
        case RestartMode.NO:
            return False


def should_start_at_boot(wanted: RestartPolicy, exit_code: int, *, stopped_by_user: bool) -> bool:
    """Whether a daemon that starts starts a container that does not run."""
    if wanted.mode is RestartMode.ALWAYS:
        return True
    if wanted.mode is RestartMode.UNLESS_STOPPED:
        return not stopped_by_user
    if wanted.mode is RestartMode.ON_FAILURE:
        return exit_code != 0 and not stopped_by_user
    return False
