"""Version prefixes of paths."""

from __future__ import annotations

import pytest

from cnm.engine.versions import ANNOUNCED, ApiVersion, split_path
from cnm.errors import InvalidParameter


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/networks", ANNOUNCED, "/networks"),
        ("/v1.41/networks", ApiVersion(1, 41), "/networks"),
        ("/v1.24/_ping", ApiVersion(1, 24), "/_ping"),
        ("/v1.55/networks/", ApiVersion(1, 55), "/networks/"),
        ("/v1.44/networks/two words", ApiVersion(1, 44), "/networks/two words"),
        ("/v1.44", ANNOUNCED, "/v1.44"),
        ("/version", ANNOUNCED, "/version"),
        ("/vx/networks", ANNOUNCED, "/vx/networks"),
    ],
)
def test_a_prefix_is_taken_off(path: str, version: ApiVersion, rest: str) -> None:
    assert split_path(path) == (version, rest)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/v1.99/info",
            "client version 1.99 is too new. Maximum supported API version is 1.55",
        ),
        (
            "/v1.10/info",
            (
                "client version 1.10 is too old. Minimum supported API version is 1.24, please"
                " upgrade your client to a newer version"
            ),
        ),
        ("/v2/info", "client version 2 is too new. Maximum supported API version is 1.55"),
        (
            f"/v{'9' * 5000}/info",
            f"client version {'9' * 40} is too new. Maximum supported API version is 1.55",
        ),
    ],
)
def test_versions_that_are_not_served(path: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        split_path(path)
    assert str(caught.value) == message
