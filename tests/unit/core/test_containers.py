"""Containers of the runtime: life cycle, networks kept and given back, refusals, failures."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakeruntime import IDS

from cnm.containerapi import (
    Command,
    ContainerDefinition,
    ContainerRecord,
    ContainerStatus,
    HostEntry,
    NameService,
    RestartMode,
    RestartPolicy,
    UsernsMode,
)
from cnm.errors import CNMError, Conflict, InvalidParameter, KernelError, NotFound, StartFailed
from cnm.runtimeapi import Security, WaitCondition
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest, Phase, SandboxStatus

addr = ipaddress.IPv4Address


@pytest.fixture
def machine(world: Any) -> Any:
    """The predefined networks and blue (10.1.0.0/24); the daemon follows the runtime."""
    world.core.reconciler.start()
    world.core.networks.ensure_predefined()
    pool = IpamConfig(ipaddress.ip_network("10.1.0.0/24"))
    world.core.networks.create(NetworkRequest("blue", ipam_config=(pool,)))
    world.core.recovery.follow()
    world.core.recovery.begin(world.core.containers.start_again)
    return world


def create(machine: Any, name: str = "k1", **wish: Any) -> Any:
    wish.setdefault("network_mode", "blue")
    return machine.core.containers.create(name, ContainerDefinition("busybox", **wish))


def run(machine: Any, name: str = "k1", **wish: Any) -> Any:
    record = create(machine, name, **wish)
    machine.core.containers.start(name)
    return machine.core.containers.find(record.id)


def poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def status(machine: Any, name: str = "k1") -> ContainerStatus:
    return machine.core.containers.find(name).status  # type: ignore[no-any-return]


def actions(machine: Any) -> list[str]:
    events = machine.core.events.backlog(0, time.time_ns())
    return [event.action for event in events if event.type == "container"]


def hosts(machine: Any, record: Any) -> str:
    return (machine.folder / "root" / "containers" / record.id / "hosts").read_text()  # type: ignore[no-any-return]


def test_from_create_to_remove(machine: Any) -> None:
    record = create(machine)
    assert status(machine) is ContainerStatus.CREATED
    assert "10.1.0.2" not in machine.leased()
    assert machine.core.containers.start("k1") is True
    assert machine.core.containers.start("k1") is False
    network = machine.core.inspector.networks(record.id, "h")["blue"]
    assert network["IPAddress"] == "10.1.0.2"
    assert f"10.1.0.2\t{record.id[:12]}\n" in hosts(machine, record)
    machine.core.containers.stop("k1")
    assert status(machine) is ContainerStatus.EXITED
    assert machine.core.containers.find("k1").exit_code == 143
    assert machine.core.sandboxes.find("k1").status is SandboxStatus.EXITED
    assert machine.kernel.namespaces == {}
    assert machine.kernel.links == {}
    assert "10.1.0.2" not in machine.leased()
    machine.core.containers.remove("k1")
    assert machine.core.containers.all() == []
    assert list((machine.folder / "root" / "containers").iterdir()) == []
    assert actions(machine) == ["create", "start", "kill", "die", "stop", "destroy"]


def test_the_image_and_the_wish_together(machine: Any) -> None:
    record = run(machine, command=Command(arguments=("echo", "hi"), environment=("A=b",)))
    spec = machine.runtime.specs[record.id]
    assert spec.process.arguments == ("echo", "hi")
    assert spec.process.environment == ("PATH=/bin", "A=b")
    assert spec.network_namespace == str(machine.folder / "netns" / record.id)
    assert [bind.destination for bind in spec.binds] == [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
    ]


def test_an_end_of_its_own_is_noticed(machine: Any) -> None:
    record = run(machine)
    heard: list[int] = []
    machine.core.containers.wait("k1", WaitCondition.NEXT_EXIT, heard.append)
    machine.runtime.exit(record.id, 3)
    poll(lambda: heard, "the exit was told")
    assert heard == [3]
    assert status(machine) is ContainerStatus.EXITED
    assert machine.kernel.namespaces == {}


def test_wait_conditions(machine: Any) -> None:
    create(machine)
    heard: list[str] = []

    def listen(name: str) -> Callable[[int], None]:
        return lambda code: heard.append(f"{name} {code}")

    wait = machine.core.containers.wait
    wait("k1", WaitCondition.NOT_RUNNING, listen("not-running"))
    assert heard == ["not-running 0"]
    wait("k1", WaitCondition.REMOVED, listen("removed"))
    cancel = wait("k1", WaitCondition.NEXT_EXIT, listen("cancelled"))
    cancel()
    machine.core.containers.start("k1")
    machine.core.containers.kill("k1")
    machine.core.containers.remove("k1")
    assert heard == ["not-running 0", "removed 137"]


def test_stopped_ones_keep_static_addresses_and_networks(machine: Any) -> None:
    wish = {"blue": EndpointRequest(ipv4=addr("10.1.0.9")), "bridge": EndpointRequest()}
    record = create(machine, endpoints=wish)
    assert "10.1.0.9" in machine.leased()
    machine.core.containers.start("k1")
    machine.core.containers.stop("k1")
    assert "10.1.0.9" in machine.leased()
    machine.core.networks.create(NetworkRequest("red"))
    machine.core.connections.connect("red", "k1", EndpointRequest(aliases=("x",)))
    machine.core.connections.disconnect("bridge", "k1")
    machine.core.containers.start("k1")
    networks = machine.core.inspector.networks(record.id, "h")
    assert set(networks) == {"blue", "red"}
    assert networks["blue"]["IPAddress"] == "10.1.0.9"
    assert networks["red"]["DNSNames"] == ["k1", "x", record.id[:12], "h"]


def test_connect_to_a_running_one_is_seen_in_its_hosts(machine: Any) -> None:
    record = run(machine)
    machine.core.connections.connect("bridge", "k1", EndpointRequest())
    assert "172.17.0.2\t" in hosts(machine, record)
    machine.core.connections.disconnect("bridge", "k1")
    assert "172.17.0.2\t" not in hosts(machine, record)


def test_the_first_network_is_eth0(machine: Any) -> None:
    record = run(machine, endpoints={"bridge": EndpointRequest(), "blue": EndpointRequest()})
    names = {name for _, name in machine.kernel.links.values()}
    assert names == {"eth0", "eth1"}
    first = machine.core.sandboxes.find(record.id)
    endpoint = machine.core.connections.routes(first.id)[0]
    assert endpoint is not None
    assert list(machine.core.inspector.networks(record.id, "")) == ["blue", "bridge"]


REFUSALS: list[tuple[dict[str, Any], type[CNMError], str]] = [
    ({"image": "nope"}, NotFound, "No such image: nope"),
    ({"name": "x"}, InvalidParameter, r"Invalid container name \(x\)"),
    # not a 404: clients would take it for a missing image
    ({"network_mode": "container:nope"}, InvalidParameter, "No such container: nope"),
    ({"endpoints": {"blue": EndpointRequest(ipv4=addr("9.9.9.9"))}}, InvalidParameter, "subnet"),
    (
        {"auto_remove": True, "restart": RestartPolicy(RestartMode.ALWAYS)},
        InvalidParameter,
        "can't create 'AutoRemove' container with restart policy",
    ),
    ({"stop_signal": "NOPE"}, InvalidParameter, "invalid signal: NOPE"),
    (
        {"names": NameService(links=(("db", "d"),))},
        InvalidParameter,
        "could not get container for db",
    ),
    (
        {"network_mode": "none", "endpoints": {"none": EndpointRequest(ipv4=addr("9.9.9.9"))}},
        InvalidParameter,
        "user specified IP address is supported on user defined networks only",
    ),
    (
        {"network_mode": "host", "endpoints": {"host": EndpointRequest(mac="02:42:00:00:00:09")}},
        InvalidParameter,
        "conflicting options: mac-address and the network mode",
    ),
    ({"hostname": "x" * 65}, InvalidParameter, "is too long"),
    ({"network_mode": "container:"}, InvalidParameter, "invalid container format"),
    (
        {"network_mode": "host", "endpoints": {"blue": EndpointRequest()}},
        InvalidParameter,
        "conflicting options",
    ),
]


@pytest.mark.parametrize(("wish", "kind", "text"), REFUSALS, ids=[item[2] for item in REFUSALS])
def test_refusals_leave_nothing(
    machine: Any, wish: dict[str, Any], kind: type[CNMError], text: str
) -> None:
    definition = {"image": "busybox", "network_mode": "blue", **wish}
    name = definition.pop("name", "k1")
    before = machine.leased()
    with pytest.raises(kind, match=text):
        machine.core.containers.create(name, ContainerDefinition(**definition))
    assert machine.core.containers.all() == []
    assert machine.core.sandboxes.all() == []
    assert machine.leased() == before
    assert machine.runtime.states == {}


def test_names_are_one_set_with_adopted_ones(machine: Any) -> None:
    create(machine)
    machine.adopt("other", 77)
    with pytest.raises(Conflict, match=r'"/k1" is already in use by container'):
        create(machine)
    with pytest.raises(Conflict, match=r'"/other" is already in use'):
        create(machine, "other")
    with pytest.raises(Conflict, match=r'"/k1" is already in use'):
        machine.adopt("k1", 78)
    with pytest.raises(InvalidParameter, match="was not adopted"):
        machine.core.sandboxes.release("k1")
    with pytest.raises(InvalidParameter, match="adopted network namespace"):
        machine.core.containers.start("other")


def test_a_missing_network_counts_at_the_start(machine: Any) -> None:
    create(machine, network_mode="later")
    with pytest.raises(NotFound, match="network later not found"):
        machine.core.containers.start("k1")
    assert machine.core.containers.find("k1").exit_code == 128
    machine.core.networks.create(NetworkRequest("later"))
    assert machine.core.containers.start("k1")


def test_a_network_removed_while_stopped_counts_at_the_start(machine: Any) -> None:
    create(machine)
    machine.core.networks.delete("blue")
    with pytest.raises(NotFound, match="network blue not found"):
        machine.core.containers.start("k1")


@pytest.mark.parametrize("step", range(1, 8))
def test_a_start_that_fails_at_any_step_leaves_nothing(machine: Any, step: int) -> None:
    create(machine, endpoints={"blue": EndpointRequest(), "bridge": EndpointRequest()})
    machine.kernel.fault.arm(step)
    with pytest.raises(KernelError):
        machine.core.containers.start("k1")
    machine.kernel.fault.arm(0)
    assert machine.kernel.namespaces == {}
    assert machine.kernel.links == {}
    assert status(machine) is ContainerStatus.CREATED
    assert machine.core.sandboxes.find("k1").status is SandboxStatus.EXITED
    assert machine.core.containers.start("k1")
    assert set(machine.core.inspector.networks(machine.core.sandboxes.find("k1").id, "")) == {
        "blue",
        "bridge",
    }


def test_a_command_that_does_not_exist(machine: Any) -> None:
    machine.runtime.refuse = StartFailed("executable file not found in $PATH", 127)
    create(machine)
    with pytest.raises(StartFailed, match="not found in"):
        machine.core.containers.start("k1")
    assert machine.core.containers.find("k1").exit_code == 127
    create(machine, "k2", auto_remove=True)
    heard: list[int] = []
    machine.core.containers.wait("k2", WaitCondition.REMOVED, heard.append)
    with pytest.raises(StartFailed):
        machine.core.containers.start("k2")
    assert heard == [127]
    with pytest.raises(NotFound):
        machine.core.containers.find("k2")


def test_rm_refuses_running_ones_unless_forced(machine: Any) -> None:
    run(machine)
    with pytest.raises(Conflict, match='cannot remove container "k1": container is running'):
        machine.core.containers.remove("k1")
    machine.core.containers.remove("k1", force=True)
    assert machine.core.containers.all() == []
    assert machine.kernel.namespaces == {}


def test_auto_remove(machine: Any) -> None:
    record = run(machine, auto_remove=True)
    heard: list[int] = []
    machine.core.containers.wait("k1", WaitCondition.REMOVED, heard.append)
    machine.core.containers.restart("k1")
    assert status(machine) is ContainerStatus.RUNNING
    machine.runtime.exit(record.id, 4)
    poll(lambda: heard, "removal was told")
    assert heard == [4]
    assert machine.core.containers.all() == []


def test_kill(machine: Any) -> None:
    record = run(machine)
    machine.runtime.ignores = {1}
    machine.core.containers.kill("k1", "HUP")
    assert machine.runtime.signals == [(record.id, 1)]
    assert status(machine) is ContainerStatus.RUNNING
    with pytest.raises(InvalidParameter, match="invalid signal: NOPE"):
        machine.core.containers.kill("k1", "NOPE")
    machine.core.containers.kill("k1")
    with pytest.raises(Conflict, match="is not running"):
        machine.core.containers.kill("k1")


def test_restart_policy_starts_again_and_stop_ends_it(machine: Any) -> None:
    record = run(machine, restart=RestartPolicy(RestartMode.ALWAYS))
    machine.runtime.exit(record.id, 1)
    poll(
        lambda: (
            machine.core.containers.find("k1").restart_count == 1
            and status(machine) is ContainerStatus.RUNNING
        ),
        "it runs again",
    )
    assert machine.core.inspector.networks(record.id, "")["blue"]["IPAddress"] == "10.1.0.2"
    machine.core.containers.stop("k1")
    assert status(machine) is ContainerStatus.EXITED
    machine.core.containers.start("k1")
    assert machine.core.containers.find("k1").restart_count == 0


def test_on_failure_gives_up(machine: Any) -> None:
    record = run(machine, restart=RestartPolicy(RestartMode.ON_FAILURE, 1))
    machine.runtime.exit(record.id, 1)

    def seen() -> tuple[ContainerStatus, int, int]:
        found = machine.core.containers.find("k1")
        return found.status, found.restart_count, found.exit_code

    poll(lambda: seen() == (ContainerStatus.RUNNING, 1, 0), "it runs again")
    machine.runtime.exit(record.id, 2)
    poll(lambda: seen() == (ContainerStatus.EXITED, 1, 2), "it is given up")


def test_host_none_and_shared_stacks(machine: Any) -> None:
    record = run(machine, hostname="web")
    host = run(machine, "h1", network_mode="host")
    none = run(machine, "n1", network_mode="none")
    shared = run(machine, "s1", network_mode="container:k1")
    specs = machine.runtime.specs
    assert specs[host.id].network_namespace == ""
    assert not specs[host.id].own_network
    assert specs[none.id].network_namespace.endswith(none.id)
    assert specs[shared.id].network_namespace.endswith(record.id)
    assert specs[shared.id].hostname == "web"
    assert specs[shared.id].binds == specs[record.id].binds
    for name in ("h1", "s1"):
        with pytest.raises(InvalidParameter, match="sharing network namespace"):
            machine.core.connections.connect("blue", name, EndpointRequest())
    with pytest.raises(InvalidParameter, match="private \\(none\\) mode"):
        machine.core.connections.connect("blue", "n1", EndpointRequest())
    machine.core.containers.stop("k1")
    machine.core.containers.stop("s1")
    with pytest.raises(Conflict, match="of a non running container"):
        machine.core.containers.start("s1")


def test_one_that_is_being_made_is_not_there_yet(machine: Any) -> None:
    """Whoever asks for its name meanwhile must not start it, nor remove half of it."""
    core = machine.core
    answers: list[str] = []

    def meanwhile(what: str) -> None:
        if what == "runtime create" and not answers:
            (record,) = machine.stored(ContainerRecord)
            for verb in (core.containers.start, core.containers.remove, core.containers.find):
                for reference in ("k1", record.id[:12]):
                    with pytest.raises(NotFound, match="No such container") as refused:
                        verb(reference)
                    answers.append(str(refused.value))
            with pytest.raises(NotFound):
                core.connections.connect("bridge", "k1", EndpointRequest())

    machine.runtime.step = meanwhile
    record = create(machine)
    assert len(answers) == 6
    assert core.containers.find("k1") == record
    assert core.containers.start("k1")


def test_two_starts_at_once(machine: Any) -> None:
    """A network that came after the creation is joined by one of them, for both."""
    record = create(machine, endpoints={"late": EndpointRequest(), "blue": EndpointRequest()})
    machine.core.networks.create(NetworkRequest("late"))
    outcomes: list[object] = []

    def start() -> None:
        try:
            outcomes.append(machine.core.containers.start(record.id))
        except CNMError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes, key=str) == [False] * 7 + [True]


def test_a_user_namespace_where_it_is_asked_for(machine: Any) -> None:
    plain, specs = run(machine, "p1"), machine.runtime.specs
    assert specs[plain.id].ids is None
    record = run(machine, userns=UsernsMode.PRIVATE)
    assert specs[record.id].ids == machine.kernel.owners[specs[record.id].network_namespace] == IDS
    assert record.ids == IDS
    assert all(bind.mapped for bind in specs[record.id].binds)
    partner = run(machine, "s1", userns=UsernsMode.PRIVATE, network_mode="container:k1")
    assert specs[partner.id].ids == IDS
    guest = run(machine, "g1", network_mode="container:k1")
    assert specs[guest.id].ids is None


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"network_mode": "host"}, "cannot share the host's network namespace"),
        ({"security": Security(privileged=True)}, "privileged mode is incompatible"),
        ({"network_mode": "container:p1"}, "it has no user namespace of its own"),
        ({"network_mode": "container:a1"}, "it has no user namespace of its own"),
    ],
)
def test_what_a_user_namespace_excludes(machine: Any, wish: dict[str, Any], text: str) -> None:
    run(machine, "p1")
    machine.adopt("a1", 77)
    with pytest.raises(InvalidParameter, match=text):
        create(machine, userns=UsernsMode.PRIVATE, **wish)
    assert [item.name for item in machine.core.containers.all()] == ["p1"]


def test_a_daemon_that_remaps(machine: Any) -> None:
    machine.remapped = True
    machine.start()
    machine.core.reconciler.start()
    specs = machine.runtime.specs
    assert specs[run(machine).id].ids == IDS
    assert specs[run(machine, "h1", userns=UsernsMode.HOST, network_mode="host").id].ids is None
    with pytest.raises(InvalidParameter, match="cannot share the host's network namespace"):
        create(machine, "h2", network_mode="host")


def test_host_and_none_show_who_is_on_them(machine: Any) -> None:
    core = machine.core
    for mode in ("host", "none"):
        record = run(machine, f"{mode}1", network_mode=mode)
        create(machine, f"{mode}2", network_mode=mode)
        shown = core.inspector.network(core.networks.find(mode))["Containers"]
        assert [(key, row["Name"]) for key, row in shown.items()] == [(record.id, record.name)]
        own = core.documents.container(record)["NetworkSettings"]["Networks"]
        assert own[mode]["EndpointID"] == shown[record.id]["EndpointID"] != ""
        core.containers.stop(record.id)
        assert core.inspector.network(core.networks.find(mode))["Containers"] == {}
        stopped = core.documents.container(core.containers.find(record.id))
        assert stopped["NetworkSettings"]["Networks"][mode]["EndpointID"] == ""


def test_none_can_be_left_for_another_network(machine: Any) -> None:
    core = machine.core
    record = run(machine, "n1", network_mode="none")
    core.connections.disconnect("none", "n1")
    assert core.inspector.network(core.networks.find("none"))["Containers"] == {}
    core.connections.connect("blue", "n1", EndpointRequest())
    with pytest.raises(InvalidParameter, match="cannot disconnect container from none network"):
        core.connections.disconnect("none", "n1")
    core.containers.restart("n1")
    shown = core.documents.container(core.containers.find(record.id))["NetworkSettings"]
    assert shown["Networks"]["blue"]["IPAddress"] == "10.1.0.2"
    run(machine, "h1", network_mode="host")
    with pytest.raises(InvalidParameter, match="cannot disconnect container from host network"):
        core.connections.disconnect("host", "h1")


def test_links_on_the_default_bridge(machine: Any) -> None:
    database = create(machine, "db", network_mode="bridge", exposed_ports=("5432/tcp",))
    web = create(machine, "web", network_mode="bridge", names=NameService(links=(("db", "store"),)))
    with pytest.raises(CNMError, match="Cannot link to a non running container: /db AS /web/store"):
        machine.core.containers.start("web")
    machine.core.containers.start("db")
    machine.core.containers.start("web")
    assert f"172.17.0.2\tstore {database.id[:12]} db\n" in hosts(machine, web)
    environment = machine.runtime.specs[web.id].process.environment
    assert "STORE_PORT=tcp://172.17.0.2:5432" in environment
    assert "STORE_NAME=/web/store" in environment


def test_host_gateway_and_added_hosts(machine: Any) -> None:
    entries = (HostEntry("a", addr("1.2.3.4")), HostEntry("gw"))
    record = run(machine, names=NameService(hosts=entries))
    assert "1.2.3.4\ta\n172.17.0.1\tgw\n" in hosts(machine, record)


def test_rename(machine: Any) -> None:
    record = run(machine)
    create(machine, "k2")
    with pytest.raises(Conflict, match='"/k2" is already in use'):
        machine.core.containers.rename("k1", "k2")
    with pytest.raises(InvalidParameter, match=r"allocating new name: .* \(/\?\)"):
        machine.core.containers.rename("k1", "?")
    machine.core.containers.rename("k1", "k3")
    assert machine.core.containers.find("k3").id == record.id
    assert machine.core.inspector.networks(record.id, "")["blue"]["DNSNames"][0] == "k3"
    create(machine, "k1")


# the daemon goes and comes back


def restarted(machine: Any) -> Any:
    machine.start()
    repairs = machine.core.reconciler.start()
    machine.core.recovery.begin(machine.core.containers.start_again)
    return [str(item) for item in repairs]


def test_a_restart_changes_nothing(machine: Any) -> None:
    record = run(machine)
    create(machine, "k2")
    links = dict(machine.kernel.links)
    assert restarted(machine) == []
    assert machine.core.containers.find("k1") == record
    assert machine.kernel.links == links
    machine.runtime.exit(record.id, 5)
    poll(lambda: status(machine) is ContainerStatus.EXITED, "its end is seen")


def test_an_end_while_no_daemon_ran(machine: Any) -> None:
    record = run(machine)
    again = run(machine, "k2", restart=RestartPolicy(RestartMode.UNLESS_STOPPED))
    machine.stop()
    for item in (record, again):
        machine.runtime.exit(item.id, 9, tell=False)
    restarted(machine)
    assert machine.core.containers.find("k1").exit_code == 9
    poll(lambda: status(machine, "k2") is ContainerStatus.RUNNING, "c2 runs again")
    assert len(machine.kernel.namespaces) == 1


def test_a_boot(machine: Any) -> None:
    run(machine)
    run(machine, "k2", restart=RestartPolicy(RestartMode.ALWAYS))
    machine.stop()
    machine.kernel.boot = "boot-2"
    for part in (machine.kernel.namespaces, machine.kernel.links, machine.kernel.networks):
        part.clear()
    machine.runtime.states.clear()
    machine.runtime.specs.clear()
    restarted(machine)
    assert machine.core.containers.find("k1").exit_code == 255
    poll(lambda: status(machine, "k2") is ContainerStatus.RUNNING, "c2 runs again")
    network = machine.core.inspector.networks(machine.core.containers.find("k2").id, "")["blue"]
    assert network["IPAddress"] == "10.1.0.2"


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("verb", ["start", "stop", "remove", "create"])
def test_a_daemon_killed_at_a_write_is_mended(
    machine: Any, verb: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As good as killed: after the Nth write to the store nothing more happens, undo neither."""
    if verb != "create":
        wish = {"blue": EndpointRequest(ipv4=addr("10.1.0.9")), "bridge": EndpointRequest()}
        create(machine, endpoints=wish)
    if verb in ("stop", "remove"):
        machine.core.containers.start("k1")
    thread = threading.Thread(target=lambda: _killed(machine, verb, step))
    thread.start()
    thread.join(10)
    restarted(machine)
    machine.core.reconciler.sweep()
    found = machine.core.containers.all()
    assert all(item.phase is Phase.ACTIVE for item in found)
    running = [item for item in found if item.status is ContainerStatus.RUNNING]
    assert len(machine.kernel.namespaces) == len(running)
    assert len(machine.kernel.links) == 2 * len(running)
    assert set(machine.runtime.states) <= {item.id for item in found}
    assert len(list((machine.folder / "root" / "containers").iterdir())) == len(found)
    if verb in ("start", "stop"):
        machine.core.containers.start("k1")
        networks = machine.core.inspector.networks(found[0].id, "")
        assert networks["blue"]["IPAddress"] == "10.1.0.9"
        assert set(networks) == {"blue", "bridge"}


class Killed(BaseException):
    """No except clause of the product catches it."""


def _killed(machine: Any, verb: str, step: int) -> None:
    core, left = machine.core, [step]
    store = core.containers._state.store
    real = store.write

    def write(*args: Any, **options: Any) -> None:
        if left[0] <= 0:
            raise Killed
        left[0] -= 1
        real(*args, **options)

    store.write = write
    try:
        if verb == "create":
            create(machine)
        elif verb == "remove":
            core.containers.remove("k1", force=True)
        else:
            getattr(core.containers, verb)("k1")
    except (Killed, KernelError):
        pass
