"""Who survives whom: daemon's side, process and sandboxes, each lost and found again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from kernel.dns.handing import BLUE, Box, Clients, Daemon, endpoint, names, view
from kernel.namespaces import Namespace, NamespaceFactory, poll

from cnm.dns import control, insides
from cnm.dns.process import Process
from cnm.errors import CNMError, KernelError
from cnm.runtime.sandbox import NamespaceSandboxes
from cnm.types import EndpointID

pytestmark = pytest.mark.kernel

WEB = endpoint("web", "10.1.0.2")
ADDRESS = ["10.1.0.2"]
WAITING = 600  # queries: more than a socket of the kernel's usual size holds
Boxes = Callable[[str], Box]


@pytest.fixture
def provider() -> Iterator[NamespaceSandboxes]:
    made = NamespaceSandboxes()
    yield made
    made.close()


@pytest.fixture
def daemon(host_ns: Namespace, tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "run")
    yield made
    made.handover.shutdown()


@pytest.fixture
def box(make_ns: NamespaceFactory) -> Box:
    return Box(make_ns("box"))


def serve(daemon: Daemon, provider: NamespaceSandboxes, box: Box) -> None:
    """The box asks for the names of network blue, on which there is ``web``."""
    daemon.handover.publish(BLUE, "blue", WEB)
    with provider.open(box.record) as sandbox:
        daemon.handover.serve(box.record, view(BLUE), sandbox)
    assert box.dig("web") == ADDRESS


def restore(daemon: Daemon, provider: NamespaceSandboxes, box: Box) -> list[str]:
    """What a start of a daemon or its sweep repairs."""
    found = list(daemon.handover.restore_network(names(WEB)))
    with provider.open(box.record) as sandbox:
        found += daemon.handover.restore_sandbox(box.record, view(BLUE), sandbox)
    return [str(item).replace(box.box.name, "box") for item in found]


# a life without losses


def test_from_serve_to_stop(daemon: Daemon, provider: NamespaceSandboxes, box: Box) -> None:
    serve(daemon, provider, box)
    assert box.dig("+tcp", "web.blue") == ADDRESS
    daemon.handover.publish(BLUE, "blue", endpoint("db", "10.1.0.3"))
    assert box.dig("db") == ["10.1.0.3"]
    daemon.handover.withdraw(BLUE, WEB.endpoint_id)
    assert box.dig("web") == []
    daemon.handover.see(box.id, view())
    assert box.dig("db") == []
    with provider.open(box.record) as sandbox:
        daemon.handover.stop(box.id, sandbox)
        daemon.handover.stop(box.id, sandbox)
    assert (box.rules(), box.sockets()) == ("", "")
    assert daemon.handover.known() == ({BLUE}, [])


def test_nobody_is_started_to_be_told_of_an_end(daemon: Daemon, box: Box) -> None:
    daemon.handover.withdraw(BLUE, EndpointID("x"))
    daemon.handover.stop(box.id, None)
    daemon.handover.see(box.id, view(BLUE))
    assert daemon.handover.restore_network(names()) == []
    assert daemon.handover.known() == (set(), [])
    assert not (daemon.exec_root / "dns.sock").exists()


def test_a_refused_socket_leaves_nothing(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    box.box.sh("link set lo down; address flush dev lo")
    with pytest.raises(KernelError) as caught, provider.open(box.record) as sandbox:
        daemon.handover.serve(box.record, view(BLUE), sandbox)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert (box.rules(), box.sockets()) == ("", "")
    assert not daemon.handover.serves(box.id)


def test_many_at_once(
    daemon: Daemon, provider: NamespaceSandboxes, make_ns: NamespaceFactory
) -> None:
    boxes = [Box(make_ns(f"b{number}")) for number in range(12)]

    def live(number: int) -> None:
        own, box = endpoint(f"n{number}", f"10.1.1.{number}"), boxes[number]
        for _ in range(5):
            daemon.handover.publish(BLUE, "blue", own)
            with provider.open(box.record) as sandbox:
                daemon.handover.serve(box.record, view(BLUE), sandbox)
                daemon.handover.see(box.id, view())
                daemon.handover.see(box.id, view(BLUE))
                daemon.handover.stop(box.id, sandbox)
            daemon.handover.withdraw(BLUE, own.endpoint_id)
        daemon.handover.publish(BLUE, "blue", own)
        with provider.open(box.record) as sandbox:
            daemon.handover.serve(box.record, view(BLUE), sandbox)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(live, range(len(boxes))))
    for number, box in enumerate(boxes):
        assert box.dig("n3", f"n{number}") == ["10.1.1.3", f"10.1.1.{number}"]


# several things, one wait


def forget(daemon: Daemon, box: Box) -> None:
    """The process, not its daemon, forgets a box."""
    process = Process.running(control.place(str(daemon.exec_root)))
    assert process is not None
    process.ask("stop", id=box.id)
    process.close()


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda daemon, box: None,
        lambda daemon, box: daemon.kill(),
        lambda daemon, box: os.kill(daemon.pid, signal.SIGSTOP),
        forget,
    ],
    ids=["nothing", "it dies", "it hangs", "it forgets"],
)
def test_what_is_told_together(
    daemon: Daemon,
    provider: NamespaceSandboxes,
    box: Box,
    meanwhile: Callable[[Daemon, Box], object],
) -> None:
    serve(daemon, provider, box)
    daemon.handover.see(box.id, view())
    with daemon.handover.together() as answered:
        daemon.handover.publish(BLUE, "blue", endpoint("db", "10.1.0.3"))
        meanwhile(daemon, box)
        daemon.handover.withdraw(BLUE, WEB.endpoint_id)
        daemon.handover.see(box.id, view(BLUE))
    answered()
    assert box.dig("db", "web") == ["10.1.0.3"]
    assert daemon.handover.restore_network(names(endpoint("db", "10.1.0.3"))) == []


def test_groups_are_waited_for_in_any_order_and_others_ask_meanwhile(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    daemon.handover.see(box.id, view(BLUE))
    waits = []
    for number in range(3):
        with daemon.handover.together() as answered:
            daemon.handover.publish(BLUE, "blue", endpoint(f"db{number}", f"10.1.0.{number}"))
        waits.append(answered)
    assert daemon.handover.known() == ({BLUE}, [box.id])
    with daemon.handover.together():
        daemon.handover.publish(BLUE, "blue", endpoint("nobody-waits", "10.1.0.9"))
    waits[2]()
    waits[0]()
    daemon.handover.withdraw(BLUE, endpoint("db0", "10.1.0.0").endpoint_id)
    waits[1]()
    assert box.dig("db0", "db1", "db2", "nobody-waits") == ["10.1.0.1", "10.1.0.2", "10.1.0.9"]


def test_what_is_refused_is_raised_where_it_is_waited_for(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    daemon.handover.see(box.id, view(BLUE))
    unreadable = replace(endpoint("db", "10.1.0.3"), addresses=("nowhere",))  # type: ignore[arg-type]
    with daemon.handover.together() as answered:
        daemon.handover.publish(BLUE, "blue", endpoint("web2", "10.1.0.4"))
        daemon.handover.publish(BLUE, "blue", unreadable)
    with pytest.raises(CNMError, match="nowhere"):
        answered()
    assert box.dig("web2") == ["10.1.0.4"]


def test_the_process_ends_before_it_is_waited_for(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    """Of all who wait: the first one who notices takes it away."""
    serve(daemon, provider, box)
    waits = []
    for number in range(2):
        with daemon.handover.together() as answered:
            daemon.handover.publish(BLUE, "blue", endpoint(f"db{number}", f"10.1.0.{number}"))
            daemon.handover.see(box.id, view(BLUE))
        waits.append(answered)
    pid = daemon.pid
    daemon.kill()
    poll(lambda: daemon.mended, "word of it")
    for answered in waits:
        answered()
    assert daemon.pid != pid
    assert box.dig("db0", "db1") == ["10.1.0.0", "10.1.0.1"]


def test_a_sandbox_that_vanishes_before_it_is_waited_for_is_no_error(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    with daemon.handover.together() as answered:
        daemon.handover.see(box.id, view(BLUE))
        daemon.handover._process.ask("stop", id=box.id)  # type: ignore[union-attr]
    daemon.handover._has_vanished(box.id)
    answered()


def test_an_error_in_between_leaves_no_answer_behind(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)

    def broken() -> None:
        with daemon.handover.together():
            daemon.handover.publish(BLUE, "blue", endpoint("db", "10.1.0.3"))
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert daemon.handover.known() == ({BLUE}, [box.id])
    assert box.dig("db") == ["10.1.0.3"]


# the process is lost


def test_the_next_process_answers_what_waits(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    with Clients(box.box, WAITING) as clients:
        clients.send("web")
        daemon.kill()
        assert clients.answers() == ADDRESS * WAITING
    assert daemon.pid != pid
    poll(lambda: daemon.mended, "word of it")
    assert str(daemon.mended[0]) == (
        "resolver process: it had ended: started again for 1 containers"
    )
    assert restore(daemon, provider, box) == []


def test_a_process_that_hangs_is_replaced(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    daemon.handover.publish(BLUE, "blue", endpoint("db", "10.1.0.3"))
    poll(lambda: daemon.ended(pid), "its end")
    assert box.dig("web", "db") == [*ADDRESS, "10.1.0.3"]


def test_it_ends_when_there_is_nothing_to_do(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    pid = daemon.pid
    with provider.open(box.record) as sandbox:
        daemon.handover.stop(box.id, sandbox)
    daemon.handover.close()
    poll(lambda: daemon.ended(pid), "its end")


def test_it_ends_when_nobody_can_find_it(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    pid = daemon.pid
    daemon.handover.close()
    shutil.rmtree(daemon.exec_root)
    poll(lambda: daemon.ended(pid), "its end")


# the daemon is lost


def test_the_process_goes_on_and_is_found(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    pid = daemon.pid
    daemon.handover.close()
    assert box.dig("web") == ADDRESS
    handover = daemon.again()
    assert handover.serves(box.id)
    assert restore(daemon, provider, box) == []
    assert daemon.pid == pid
    daemon.kill()  # what was found is handed to the next one as well
    assert box.dig("web") == ADDRESS


def test_only_what_differs_is_told(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box, make_ns: NamespaceFactory
) -> None:
    serve(daemon, provider, box)
    stray = Box(make_ns("stray"))
    with provider.open(stray.record) as sandbox:
        daemon.handover.serve(stray.record, view(BLUE), sandbox)
    daemon.handover.publish(BLUE, "blue", endpoint("old", "10.1.0.9"))
    daemon.handover.see(box.id, view())
    daemon.again()
    assert restore(daemon, provider, box) == [
        "names blue: told the resolver again",
        "resolver box: told the resolver again",
    ]
    assert box.dig("web") == ADDRESS
    assert box.dig("old") == []
    networks, sandboxes = daemon.handover.known()
    assert (set(networks), set(sandboxes)) == ({BLUE}, {box.id, stray.id})
    assert restore(daemon, provider, box) == []


def test_both_are_lost(daemon: Daemon, provider: NamespaceSandboxes, box: Box) -> None:
    serve(daemon, provider, box)
    before = box.rules()
    daemon.handover.close()
    daemon.kill()
    daemon.again()
    assert restore(daemon, provider, box) == ["resolver box: opened again"]
    assert box.dig("web") == ADDRESS
    assert box.rules() != before
    assert box.rules().count("table") == 1


OLDER = """
import sys
from cnm.dns import control, server
control.PROTOCOL = 0
sys.exit(server.main(["--exec-root", sys.argv[1]]))
"""


def test_another_versions_process_is_replaced(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    daemon.exec_root.mkdir()
    subprocess.run([sys.executable, "-P", "-c", OLDER, str(daemon.exec_root)], check=True)
    older = Process.start(control.place(str(daemon.exec_root)))
    with provider.open(box.record) as sandbox:
        sockets = sandbox.run(insides.open_all)
    older.ask("names", names=control.names_document(names(WEB)))
    seen = control.view_document(view(BLUE))
    older.ask("serve", sockets.descriptors, id=box.id, view=seen, path="")
    sockets.close()
    older.close()
    rules = box.rules()
    assert box.dig("web") == ADDRESS
    assert restore(daemon, provider, box) == ["resolver box: told the resolver again"]
    poll(lambda: daemon.ended(older.pid), "the end of the older one")
    assert daemon.pid != older.pid
    assert (box.rules(), box.dig("web")) == (rules, ADDRESS)


# a sandbox is lost, or spoilt from inside


def test_rules_that_the_container_flushed(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    whole = box.rules()
    assert restore(daemon, provider, box) == []
    box.box.run("nft", "flush", "ruleset")
    assert restore(daemon, provider, box) == ["table cnm-dns in box: made again"]
    assert (box.rules(), box.dig("web")) == (whole, ADDRESS)
    box.box.run("nft", "add table ip theirs")
    assert restore(daemon, provider, box) == []


def test_sockets_that_the_container_ended(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box
) -> None:
    serve(daemon, provider, box)
    box.box.run("ss", "-K", "-l", "-t", "src", "127.0.0.11")
    assert restore(daemon, provider, box) == ["resolver box: opened again"]
    assert box.dig("web") == ADDRESS
    assert box.dig("+tcp", "web") == ADDRESS


def test_another_namespace_under_the_same_name(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box, make_ns: NamespaceFactory
) -> None:
    serve(daemon, provider, box)
    other = Box(make_ns("other"))
    object.__setattr__(other.record, "id", box.id)  # adopted anew, while the sweep slept
    with provider.open(other.record) as sandbox:
        daemon.handover.serve(other.record, view(BLUE), sandbox)
    assert other.dig("web") == ADDRESS
    assert box.sockets() == ""


def test_a_deleted_namespace_is_let_go(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box, host_ns: Namespace
) -> None:
    serve(daemon, provider, box)
    host_ns.sh(f"link add outer type veth peer name inner netns {box.box.name}")
    subprocess.run(["ip", "netns", "delete", box.box.name], check=True)
    poll(lambda: host_ns.link("outer") is None, "the end of the namespace")
    assert daemon.gone == [box.id]
    assert not daemon.handover.serves(box.id)


def test_a_deleted_namespace_is_let_go_without_a_daemon(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box, host_ns: Namespace
) -> None:
    serve(daemon, provider, box)
    daemon.handover.close()
    host_ns.sh(f"link add outer type veth peer name inner netns {box.box.name}")
    subprocess.run(["ip", "netns", "delete", box.box.name], check=True)
    poll(lambda: host_ns.link("outer") is None, "the end of the namespace")


# the host


def test_the_host_asks_for_all_networks(
    daemon: Daemon, provider: NamespaceSandboxes, box: Box, host_ns: Namespace
) -> None:
    def asks(*question: str) -> list[str]:
        return host_ns.run("dig", "+short", "+tries=1", "@127.0.0.77", *question).split()

    daemon.handover.listen_on_host("127.0.0.77", 53)
    daemon.handover.publish(BLUE, "blue", WEB)
    assert asks("web") == ADDRESS
    assert asks("+tcp", "web.blue") == ADDRESS
    daemon.kill()
    assert asks("web") == ADDRESS
    daemon.again().listen_on_host("127.0.0.77", 53)
    assert asks("web") == ADDRESS
    daemon.again().listen_on_host("", 0)
    assert "127.0.0.77" not in host_ns.run("ss", "-Hlntu")


def test_somebody_else_has_the_hosts_port(daemon: Daemon, host_ns: Namespace) -> None:
    script = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    script += "s.bind(('127.0.0.77', 53)); print('bound', flush=True); sys.stdin.read()"
    command = ["ip", "netns", "exec", host_ns.name, sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"bound\n"
        with pytest.raises(KernelError) as caught:
            daemon.handover.listen_on_host("127.0.0.77", 53)
        assert caught.value.errno == errno.EADDRINUSE
        holder.communicate()
