"""Complaints are told once a minute, whoever complains how often."""

from __future__ import annotations

import errno
import os

import pytest

from cnm.daemon.descriptors import Complaints


def test_an_accept_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints()
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for _ in range(1000):
        assert complaints.accept_failed({"message": "m", "exception": error, "socket": object()})
    assert caplog.messages == ["clients wait: accept: Too many open files"]


def test_other_complaints_are_others(caplog: pytest.LogCaptureFixture) -> None:
    assert not Complaints().accept_failed({"message": "m", "exception": ValueError("x")})
    assert caplog.messages == []
