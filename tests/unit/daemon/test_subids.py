"""``userns-remap``: which ids containers get."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.daemon import subids
from cnm.errors import InvalidParameter
from cnm.idmap import IdMap, IdRange, render


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "subuid").write_text(
        "# a comment\nnobody:100000:65536\nmail:7\nnobody:x:5\nnobody:300000:10\nnobody:9:0\n"
    )
    (tmp_path / "subgid").write_text("nobody:200000:65536\nmail:400000:1000\n")
    return tmp_path


def test_the_ranges_of_a_user_one_after_the_other(etc: Path) -> None:
    expected = IdMap(
        (IdRange(0, 100000, 65536), IdRange(65536, 300000, 10)), (IdRange(0, 200000, 65536),)
    )
    assert subids.resolve("nobody", etc) == expected
    assert subids.resolve("65534", etc) == expected
    assert subids.resolve("nobody:mail", etc).groups == (IdRange(0, 400000, 1000),)
    assert subids.resolve("nobody:8", etc).groups == (IdRange(0, 400000, 1000),)


@pytest.mark.parametrize("text", ["default", ""])
def test_the_default(etc: Path, text: str) -> None:
    unclaimed = IdRange(0, 1879048192, 65536)
    assert subids.resolve(text, etc) == IdMap((unclaimed,), (unclaimed,))
    for name in ("subuid", "subgid"):
        with (etc / name).open("a") as file:
            file.write("cnmremap:500000:65536\n")
    assert subids.resolve(text, etc).users == (IdRange(0, 500000, 65536),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nosuch", "there is no user nosuch"),
        ("nobody:nosuch", "there is no group nosuch"),
        ("99999999999", "there is no user 99999999999"),
        ("mail", "no ids are reserved for mail in .*/subuid: add a line such as mail:100000:65536"),
        ("nobody:daemon", "no ids are reserved for daemon in .*/subgid"),
    ],
)
def test_what_cannot_be_had(etc: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidParameter, match=problem):
        subids.resolve(text, etc)


def test_without_the_files(tmp_path: Path) -> None:
    assert subids.resolve("default", tmp_path).users == (subids.UNCLAIMED,)
    with pytest.raises(InvalidParameter, match="no ids are reserved"):
        subids.resolve("nobody", tmp_path)


def test_ids_inside_and_outside() -> None:
    ids = IdMap((IdRange(0, 1000, 10), IdRange(10, 50, 5)), (IdRange(0, 7, 1),))
    assert [ids.user(number) for number in (0, 9, 10, 14)] == [1000, 1009, 50, 54]
    assert [ids.user(15), ids.user(-1), ids.group(0), ids.group(1)] == [None, None, 7, None]
    assert render(ids.users) == "0 1000 10\n10 50 5\n"
