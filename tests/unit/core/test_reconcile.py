"""Start-up repair and sweep over fake kernel objects; the real kernel has tests/torture."""

from __future__ import annotations

import copy
import ipaddress
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import Conflict
from cnm.types import (
    EndpointID,
    EndpointRequest,
    IpamConfig,
    NetworkID,
    NetworkRequest,
    NetworkSpec,
    OwnedObject,
    Phase,
    SandboxStatus,
)

net = ipaddress.ip_network


@pytest.fixture
def running(world: Any) -> Any:
    """blue with c1 on it."""
    world.core.networks.ensure_predefined()
    world.core.networks.create(
        NetworkRequest("blue", ipam_config=(IpamConfig(net("10.1.0.0/24")),))
    )
    world.adopt("c1", 11)
    world.core.connections.connect("blue", "c1", EndpointRequest())
    return world


def test_nothing_to_do(running: Any) -> None:
    assert running.core.reconciler.sweep() == []
    assert running.start().reconciler.start() == []


def test_what_was_removed_by_hand_comes_back(running: Any) -> None:
    running.kernel.networks.clear()
    running.kernel.links.clear()
    running.kernel.configured.clear()
    running.kernel.gateways.clear()
    actions = {(item.kind, item.action) for item in running.core.reconciler.sweep()}
    assert actions == {
        ("link", "created again"),
        ("address", "set again"),
        ("route", "set again"),
    }
    assert running.core.reconciler.sweep() == []


def test_a_new_database_does_not_wipe_a_live_host(running: Any, tmp_path: Path) -> None:
    running.core.reconciler.start()
    running.folder = tmp_path / "mistyped"
    running.folder.mkdir()
    links = dict(running.kernel.links)
    with pytest.raises(Conflict, match="start with the --root that they belong to"):
        running.start().reconciler.start()
    assert running.kernel.links == links


def test_orphans_go(running: Any) -> None:
    stray = NetworkID("f" * 64)
    running.kernel.networks[stray] = NetworkSpec(stray, "stray")
    running.kernel.links[EndpointID("e" * 64)] = ("", "eth0")
    found = running.core.reconciler.sweep()
    assert sorted(item.name for item in found) == ["br-" + "f" * 12, "veth" + "e" * 7]
    assert stray not in running.kernel.networks


def test_a_reboot_is_told_from_a_restart(running: Any) -> None:
    running.core.reconciler.start()
    running.kernel.boot = "boot-2"
    running.kernel.networks.clear()
    running.kernel.links.clear()
    # the same path and even the same cookie may exist after a boot: still another namespace
    core = running.start()
    core.reconciler.start()
    assert core.sandboxes.find("c1").status is SandboxStatus.EXITED
    assert "10.1.0.2" not in running.leased()
    assert set(running.kernel.networks) >= {core.networks.find("blue").id}


def test_leases_that_nothing_holds_are_released(running: Any, tmp_path: Path) -> None:
    blue = running.core.networks.find("blue")
    allocator = running.core.registry.ipam("default")
    allocator.request_address(blue.ipv4[0].pool_id)
    assert "10.1.0.3" in running.leased()
    repairs = running.start().reconciler.start()
    assert [str(item) for item in repairs] == ["lease 10.1.0.3: released: nothing holds it"]
    assert "10.1.0.3" not in running.leased()


def test_a_lost_pool_is_taken_again(running: Any) -> None:
    blue = running.core.networks.find("blue")
    running._store.leases.delete_pool(blue.ipv4[0].pool_id)
    actions = [str(item) for item in running.start().reconciler.start()]
    assert actions == [
        "pool 10.1.0.0/24: taken again",
        "lease 10.1.0.1: taken again",
        "lease 10.1.0.2: taken again",
    ]
    assert {"10.1.0.1", "10.1.0.2"} <= running.leased()


def test_a_disconnect_cut_off_by_a_reboot_stays_a_disconnect(running: Any) -> None:
    running.core.reconciler.start()
    state = running.core.networks._state
    (endpoint,) = state.endpoints()
    state.write(put=[replace(endpoint, phase=Phase.DELETING)])
    running.kernel.boot = "boot-2"
    running.kernel.networks.clear()
    running.kernel.links.clear()
    core = running.start()
    core.reconciler.start()
    assert core.networks._state.endpoints() == []
    assert "10.1.0.2" not in running.leased()


def test_a_sweep_does_not_end_what_was_just_adopted_anew(running: Any) -> None:
    stale = running.core.sandboxes.find("c1")
    running.kernel.links.clear()
    fresh = running.adopt("c1", 99)
    assert running.core.sandboxes.mark_exited(stale) is False
    assert running.core.sandboxes.find("c1") == fresh


def test_what_goes_in_its_own_time_is_no_repair(running: Any) -> None:
    driver = running.core.registry.driver("bridge")
    looks = [list(driver.owned()) + [OwnedObject("link", "vethgone")], list(driver.owned())]
    driver.owned = lambda: looks.pop(0)
    assert running.core.reconciler._remove_orphans(driver) == []


class Camera:
    """Copies database and kernel at the Nth write or kernel step, as a kill would leave them."""

    def __init__(self, world: Any, step: int) -> None:
        self.world, self.step, self.taken = world, step, False
        self._write = world.core.networks._state.store.write
        self._fault_step = world.kernel.fault.step

    def __enter__(self) -> Camera:
        self.world.core.networks._state.store.write = self.write
        self.world.kernel.fault.step = self.kernel_step
        return self

    def __exit__(self, *_: object) -> None:
        self.world.core.networks._state.store.write = self._write
        self.world.kernel.fault.step = self._fault_step

    def write(self, *args: Any, **options: Any) -> None:
        self.count()
        self._write(*args, **options)

    def kernel_step(self, what: str) -> None:
        self.count()

    def count(self) -> None:
        self.step -= 1
        if self.step == 0:
            self.taken = True
            self.links = dict(self.world.kernel.links)
            self.networks = dict(self.world.kernel.networks)
            self.configured = dict(self.world.kernel.configured)
            self.gateways = copy.copy(self.world.kernel.gateways)
            shutil.copytree(self.world.folder, self.world.folder.parent / "killed")

    def restore(self) -> None:
        """Put the world back to the moment of the kill, and start a new daemon on it."""
        self.world.stop()
        self.world._store = None
        self.world.folder = self.world.folder.parent / "killed"
        self.world.kernel.links = self.links
        self.world.kernel.networks = self.networks
        self.world.kernel.configured = self.configured
        self.world.kernel.gateways = self.gateways


VERBS = {
    "create": lambda core: core.networks.create(NetworkRequest("red")),
    "connect": lambda core: core.connections.connect("green", "c1", EndpointRequest()),
    "disconnect": lambda core: core.connections.disconnect("blue", "c1"),
    "delete": lambda core: core.networks.delete("green"),
    "release": lambda core: core.sandboxes.release("c1"),
    "prune": lambda core: core.networks.prune(lambda network: True),
    "adopt again": lambda core: core.sandboxes.adopt("c2", "/run/netns/c2"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_each_step(running: Any, tmp_path_factory: Any, verb: str) -> None:
    running.core.networks.create(NetworkRequest("green"))
    leave_a_wish(running)
    running.stop()
    running._store = None
    start, kernel = running.folder, copy.deepcopy(running.kernel)
    step = 0
    while True:
        step += 1
        folder = tmp_path_factory.mktemp("daemon")
        shutil.copytree(start, folder / "root")
        running.folder, running.kernel = folder / "root", copy.deepcopy(kernel)
        core = running.start()
        core.reconciler.start()
        with Camera(running, step) as camera:
            VERBS[verb](core)
        if not camera.taken:
            break
        camera.restore()
        core = running.start()
        core.reconciler.start()
        assert core.reconciler.sweep() == []
        check_agreement(running)
    assert step > 2


def leave_a_wish(world: Any) -> None:
    """c2 has ended; it keeps 10.1.0.77 on blue."""
    world.adopt("c2", 12)
    request = EndpointRequest(ipaddress.IPv4Address("10.1.0.77"))
    world.core.connections.connect("blue", "c2", request)
    path = "/run/netns/c2"
    world.kernel.namespaces[path] = 13
    for key in [key for key, place in world.kernel.links.items() if place[0] == path]:
        del world.kernel.links[key]
    world.kernel.configured.pop((path, "eth0"))
    world.kernel.gateways.pop(path)
    world.core.reconciler.sweep()


def check_agreement(world: Any) -> None:
    """Kernel and leases are exactly what the records say."""
    state = world.core.networks._state
    networks = {item.id for item in state.networks()}
    assert set(world.kernel.networks) == networks
    joined = [item for item in state.endpoints() if item.phase is Phase.ACTIVE]
    assert set(world.kernel.links) == {item.id for item in joined}
    addresses = {str(item.request.ipv4) for item in state.endpoints()}
    assert "10.1.0.77" in addresses  # the wish of c2 is never lost
    wanted = {str(pool.gateway.ip) for item in state.networks() for pool in item.ipv4}
    held = [item.interface.address for item in state.endpoints()]
    wanted |= {str(address.ip) for address in held if address is not None}
    assert world.leased() == wanted
