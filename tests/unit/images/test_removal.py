"""What `rmi` may do, and Docker's words when it may not."""

import pytest

from cnm.errors import Conflict
from cnm.imageapi import ImageID, ImageUser
from cnm.runtime.container.imageremoval import RemovalPlan, plan_by_id, plan_by_name

IMAGE = ImageID("sha256:" + "a1" * 32)
RUNNING = ImageUser("c1" * 32, running=True)
STOPPED = ImageUser("c2" * 32, running=False)
ONE, TWO = ["x:1"], ["x:1", "y:1"]


@pytest.mark.parametrize(
    ("names", "users", "force", "plan"),
    [
        (ONE, [], False, RemovalPlan(("x:1",), delete=True)),
        (TWO, [], False, RemovalPlan(("x:1",), delete=False)),
        (TWO, [RUNNING], False, RemovalPlan(("x:1",), delete=False)),
        (ONE, [STOPPED], True, RemovalPlan(("x:1",), delete=False)),
        (ONE, [RUNNING], True, RemovalPlan(("x:1",), delete=False)),
    ],
)
def test_by_name(names: list[str], users: list[ImageUser], force: bool, plan: RemovalPlan) -> None:
    assert plan_by_name(IMAGE, names, "x:1", "x:1", users, force) == plan


def test_by_name_in_use() -> None:
    with pytest.raises(Conflict) as caught:
        plan_by_name(IMAGE, ONE, "x:1", "x:1", [STOPPED], force=False)
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "x:1" (must force) - '
        "container c2c2c2c2c2c2 is using its referenced image a1a1a1a1a1a1"
    )


@pytest.mark.parametrize(
    ("names", "users", "force", "plan"),
    [
        ([], [], False, RemovalPlan((), delete=True)),
        (ONE, [], False, RemovalPlan(("x:1",), delete=True)),
        (TWO, [], True, RemovalPlan(("x:1", "y:1"), delete=True)),
        (TWO, [STOPPED], True, RemovalPlan(("x:1", "y:1"), delete=False)),
    ],
)
def test_by_id(names: list[str], users: list[ImageUser], force: bool, plan: RemovalPlan) -> None:
    assert plan_by_id(IMAGE, names, users, force) == plan


@pytest.mark.parametrize(
    ("names", "users", "force", "message"),
    [
        (ONE, [STOPPED, RUNNING], True,
         "(cannot be forced) - image is being used by running container c1c1c1c1c1c1"),
        (TWO, [STOPPED], False, "(must be forced) - image is referenced in multiple repositories"),
        (ONE, [STOPPED], False,
         "(must be forced) - image is being used by stopped container c2c2c2c2c2c2"),
        ([], [STOPPED], True,
         "(cannot be forced) - image is being used by stopped container c2c2c2c2c2c2"),
    ],
)  # fmt: skip
def test_by_id_refused(names: list[str], users: list[ImageUser], force: bool, message: str) -> None:
    with pytest.raises(Conflict) as caught:
        plan_by_id(IMAGE, names, users, force)
    assert str(caught.value) == f"conflict: unable to delete a1a1a1a1a1a1 {message}"
