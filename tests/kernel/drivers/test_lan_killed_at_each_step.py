"""SIGKILL at every kernel step of the calls of macvlan's and ipvlan's driver, on either kernel.

``test_lan_killed`` does it to a daemon, whose start takes a minute on the second kernel. Here the
process that is killed is a fork of the test's, which has all modules already. There every third
step is taken in ``make test``, from one that is chosen by chance (``SEED=…`` repeats it), and every
one in ``make torture``. The next driver knows nothing but what the store would tell it.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kernel.drivers.lab import Host, Place, PlaceFactory, interface, new_id
from kernel.drivers.wire import PARENT, lan, wired
from patience import patient
from torture.killing import chosen_seed
from torture.stepkiller import StepKiller

from cnm.types import EndpointID, EndpointState, NetworkSpec

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(60))]

ADDRESS = "10.7.0.2/24"
STEPS_MAX = 60
KINDS = {
    "macvlan": ("macvlan", {"parent": ""}),
    "macvlan with the host's way": ("macvlan", {"host_access": "true"}),
    "macvlan on a VLAN": ("macvlan", {"parent": f"{PARENT}.100"}),
    "ipvlan": ("ipvlan", {"parent": ""}),
    "ipvlan l3 on a VLAN": ("ipvlan", {"parent": f"{PARENT}.100", "ipvlan_mode": "l3"}),
}
NEEDS = {
    "macvlan on a VLAN": ("vlan",),
    "ipvlan": ("ipvlan",),
    "ipvlan l3 on a VLAN": ("ipvlan", "vlan"),
}


@dataclass
class Stage:
    """A host with a LAN, a sandbox, and one network with one endpoint, made or not."""

    host: Host
    sandbox: Place
    driver_name: str
    spec: NetworkSpec
    steps: list[int]

    def __post_init__(self) -> None:
        self.endpoint_id = EndpointID(new_id())
        self.wish = interface(ADDRESS)
        self.bare = self.seen()

    def seen(self) -> object:
        """All that could be left on either side."""
        routes = self.host.sh("ip -4 route show proto 196")
        return self.host.snapshot(), self.sandbox.snapshot(), routes

    def load(self) -> Any:
        """A driver that knows nothing yet."""
        return self.host.load(self.driver_name)

    def create(self, driver: Any) -> None:
        driver.create_network(self.spec)

    def join(self, driver: Any) -> None:
        driver.create_endpoint(self.spec.id, self.endpoint_id, self.wish, {})
        driver.join(self.spec.id, self.endpoint_id, self.sandbox.key, "eth0", {})

    def leave(self, driver: Any) -> None:
        driver.link_is_in(self.endpoint_id, self.sandbox.key)
        driver.leave(self.spec.id, self.endpoint_id)
        driver.delete_endpoint(self.spec.id, self.endpoint_id)

    def delete(self, driver: Any) -> None:
        driver.delete_network(self.spec.id)

    def told(self, *, joined: bool) -> Any:
        """A driver that was told what the store has, and found the kernel so."""
        driver = self.load()
        state = EndpointState(self.endpoint_id, self.wish, self.sandbox.key, "eth0")
        driver.restore(self.spec, [state] if joined else [])
        return driver

    def killed(self, ready: Callable[[], Any], call: Callable[[Any], None], when: int) -> bool:
        """Have a fork do it, killed at that step; whether it came so far."""
        reading, writing = os.pipe()
        go, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            _work(ready, call, writing, go)
        assert os.read(reading, 1) == b"r", "the fork is not ready"
        with StepKiller(pid, when) as tracer:
            os.write(start, b"g")
            _, status = os.waitpid(pid, 0)
        for descriptor in (reading, writing, go, start):
            os.close(descriptor)
        ended = os.waitstatus_to_exitcode(status)
        assert ended == 0 or (tracer.killed and ended == -signal.SIGKILL)
        return ended != 0  # a thread that was killed at a step just as the fork ended, came through


def _work(ready: Callable[[], Any], call: Callable[[Any], None], writing: int, go: int) -> None:
    """The fork's part; it never returns."""
    try:
        driver = ready()
        os.write(writing, b"r")
        os.read(go, 1)
        call(driver)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.fixture
def stage(
    kind: str,
    stride: int,
    host: Host,
    make_place: PlaceFactory,
    record_property: Callable[[str, object], None],
) -> Stage:
    wired(host, make_place())
    driver, options = KINDS[kind]
    seed = chosen_seed()
    first = 1 + random.Random(seed).randrange(stride)
    steps = list(range(first, STEPS_MAX, stride))
    if first > 2:
        steps.insert(0, 1)  # ipvlan's shortest call has two steps: one is always taken
    record_property(f"SEED={seed}", f"steps {', '.join(map(str, steps[:3]))}, …")
    parent = options.get("parent", PARENT)
    rest = {key: value for key, value in options.items() if key != "parent"}
    return Stage(host, make_place(), driver, lan(parent=parent, options=rest), steps)


def _each_step(
    stage: Stage, ready: Callable[[], Any], call: Callable[[Any], None]
) -> Iterator[int]:
    """After each kill, until the call gets through; the caller looks and brings all back."""
    for when in stage.steps:
        if not stage.killed(ready, call, when):
            assert when > 2
            return
        yield when
    raise AssertionError(f"more than {STEPS_MAX} steps")


def marked(name: str) -> Iterator[Any]:
    needs = NEEDS.get(name)
    if needs is None:
        yield pytest.param(name, 1, id=name)
        return
    # minutes of the second kernel
    marks = [pytest.mark.needs(*needs), pytest.mark.slow]
    yield pytest.param(name, 1, id=f"{name}, every step", marks=marks)
    if "vlan" not in needs:
        yield pytest.param(name, 3, id=name, marks=pytest.mark.needs(*needs))


KINDS_MARKED = pytest.mark.parametrize(
    ("kind", "stride"), [param for name in KINDS for param in marked(name)]
)


@KINDS_MARKED
def test_create(stage: Stage) -> None:
    """The store has the intent only: the next start takes back whatever there is."""
    for when in _each_step(stage, stage.load, stage.create):
        again = stage.load()
        stage.delete(again)
        _without_orphans(again)
        assert stage.seen() == stage.bare, f"step {when}"
    assert stage.seen() != stage.bare
    _removed(stage)


@KINDS_MARKED
def test_join(stage: Stage) -> None:
    stage.create(stage.load())
    before = stage.seen()
    for when in _each_step(stage, lambda: stage.told(joined=False), stage.join):
        again = stage.told(joined=False)
        stage.leave(again)
        assert stage.seen() == before, f"step {when}"
    again = stage.told(joined=True)
    assert stage.sandbox.link_names() == {"eth0"}
    stage.leave(again)
    assert stage.seen() == before
    _removed(stage)


@KINDS_MARKED
def test_leave(stage: Stage) -> None:
    """The store has said good-bye: the next start finishes it."""
    stage.create(stage.load())
    before = stage.seen()
    stage.join(stage.told(joined=False))
    for when in _each_step(stage, lambda: stage.told(joined=True), stage.leave):
        again = stage.told(joined=False)
        stage.leave(again)
        assert stage.seen() == before, f"step {when}"
        stage.join(again)
    assert stage.seen() == before
    _removed(stage)


@KINDS_MARKED
def test_delete(stage: Stage) -> None:
    stage.create(stage.load())
    for when in _each_step(stage, lambda: stage.told(joined=False), stage.delete):
        again = stage.load()
        stage.delete(again)
        _without_orphans(again)
        assert stage.seen() == stage.bare, f"step {when}"
        stage.create(stage.load())
    assert stage.seen() == stage.bare


def _without_orphans(driver: Any) -> None:
    """What the sweep does with marked links that no network in the store accounts for."""
    for item in driver.owned():
        driver.remove_orphan(item)


def _removed(stage: Stage) -> None:
    stage.delete(stage.told(joined=False))
    assert stage.seen() == stage.bare
