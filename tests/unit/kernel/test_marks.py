"""Marks of what is ours."""

from __future__ import annotations

import pytest

from cnm.runtime.kernel import owner
from cnm.types import EndpointID, NetworkID

ID = "0123456789abcdef" * 4


def test_a_mark_is_read_as_it_was_written() -> None:
    assert owner.parse(owner.network_mark(NetworkID(ID))) == ("network", ID)
    assert owner.parse(owner.endpoint_mark(EndpointID(ID))) == ("endpoint", ID)
    assert owner.parse(owner.inside_mark(EndpointID(ID))) == ("inside", ID)


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "uplink",
        ID,
        f"cnm:network:{ID[:-1]}",
        f"cnm:network:{ID}0",
        f"cnm:network:{ID.upper()}",
        f"cnm:other:{ID}",
        f" cnm:network:{ID}",
        f"cnm:network:{ID}\n",
    ],
)
def test_what_is_no_mark_is_not_ours(alias: str) -> None:
    assert owner.parse(alias) is None
