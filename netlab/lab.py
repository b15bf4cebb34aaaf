"""A lab: the Python API, and what the commands do.

::

    with Lab.load("two-hosts.yaml") as lab:          # up, and down at the end
        lab["node1"].net("create", "localnet")
        lab["node2"].run("ping", "-c", "1", "10.0.0.1")

``up`` makes what is missing: hosts side by side, then links, then on each host its daemons,
networks and containers, a few hosts at a time. When it fails half-way, what is made stays, to
be looked at: ``up`` again goes on, ``down`` removes it.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cnm.errors import CNMError
from cnm.netlab import (
    content,
    daemons,
    groups,
    impair,
    labfile,
    machine,
    marks,
    model,
    needs,
    processes,
    takedown,
    topology,
)
from cnm.netlab.errors import LabError, LabNotFound
from cnm.netlab.host import Host
from cnm.netlab.labfile import values
from cnm.netlab.progress import Progress, Silent
from cnm.netlab.spawning import Spawner
from cnm.netlab.state import State, no_lab
from cnm.runtime.kernel import pin
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.netns import NetNS

# Hosts whose daemons start and fill at once: they wait for RCU and disk as much as they compute.
_HOSTS_AT_ONCE = 2 * (os.cpu_count() or 1)


class Lab:
    """A lab of a file, up or not. ``spec`` is what the file says.

    Not for several threads, but its hosts are.
    """

    def __init__(self, spec: model.Lab, text: str) -> None:
        self.spec = spec
        self._text = text
        self._hosts: dict[str, Host] = {}

    @classmethod
    def load(cls, path: Path | str) -> Lab:
        """The lab of a file.

        :raises LabFileError: mistakes, each with its line.
        :raises LabError: it cannot be read.
        """
        path = Path(path)
        return cls.parse(labfile.read(path), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Lab:
        """The lab of a text that was read from ``path``, beside which its images lie.

        :raises LabFileError: mistakes, each with its line.
        """
        return cls(labfile.loads(text, path), text)

    def renamed(self, name: str) -> Lab:
        """The same lab under another name: so a file can be up several times.

        :raises LabError: that is no name.
        """
        try:
            return Lab(replace(self.spec, name=values.lab_name(name)), self._text)
        except ValueError as error:
            raise LabError(str(error)) from None

    @classmethod
    def attach(cls, name: str) -> Lab:
        """A lab that is up, by its name.

        :raises LabNotFound: none of that name is.
        """
        return cls(State(name).read(), "")

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def netns(self) -> str:
        """Name of the namespace that holds the switches, for ``ip -n``."""
        return marks.netns_path(self.name, model.SWITCHES).name

    def __getitem__(self, host: str) -> Host:
        """A host that is up.

        :raises LabNotFound: the lab is not up, or has no such host.
        """
        if host not in self._hosts:
            spec = self.spec.host(host)
            if spec is None:
                names = ", ".join(item.name for item in self.spec.hosts)
                raise LabNotFound(f'lab {self.name} has no host "{host}" (it has: {names})')
            pids = {holder.host: holder.pid for holder in marks.holders(self.name)}
            if host not in pids:
                raise LabNotFound(f"{no_lab(self.name)}" if not pids else f"{host} is not up")
            self._hosts[host] = Host(self.name, spec, pids[host])
        return self._hosts[host]

    def __iter__(self) -> Iterator[Host]:
        """All hosts, in the order of the file."""
        return (self[host.name] for host in self.spec.hosts)

    # up and down

    def up(self, progress: Progress | None = None) -> list[str]:
        """Make what is missing; names of what was made. Up already: nothing happens.

        :raises LabBusy: somebody else works on it.
        :raises LabError: what could not be made, and where; what was made stays.
        """
        progress = progress or Silent()
        state = State(self.name)
        needs.check(self.spec)
        with state.locked() as lock:
            if state.exists:
                self._refuse_another(state)
            state.write(self._text, self.spec.path)
            with _told(progress), Spawner(self.name, lock) as spawner:
                return self._make(spawner, state, progress)

    def down(self, progress: Progress | None = None) -> bool:
        """Remove all of it; whether there was anything."""
        for host in self._hosts.values():
            host.end_processes()
        self.close()
        return takedown.down(self.name, progress or Silent())

    def close(self) -> None:
        """Let go of the hosts; they live on."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    # the steps

    def _refuse_another(self, state: State) -> None:
        there = state.read()
        if _shape(there) != _shape(self.spec):
            raise LabError(
                f"lab {self.name} is up from another file, or the file has changed "
                f"({there.path}): take it down first: netlab down {self.name}"
            )

    def _make(self, spawner: Spawner, state: State, progress: Progress) -> list[str]:
        made = self._make_hosts(spawner, state, progress)
        progress.begin("links", len(self.spec.links))
        with contextlib.ExitStack() as stack:
            spaces = {
                name: stack.enter_context(NetNS(str(marks.netns_path(self.name, name))))
                for name in self._spaces()
            }
            made += topology.ensure(self.spec, spaces, progress.advance)
            self._set_sysctls(spaces)
        made += self._impair()
        made += self._fill(spawner, progress)
        return made

    def _spaces(self) -> list[str]:
        names = [host.name for host in self.spec.hosts]
        return [*names, model.SWITCHES] if self.spec.switches else names

    def _make_hosts(self, spawner: Spawner, state: State, progress: Progress) -> list[str]:
        progress.begin("hosts", len(self.spec.hosts))
        there = {holder.host: holder.pid for holder in marks.holders(self.name)}
        missing = [host for host in self.spec.hosts if host.name not in there]
        if self.spec.switches:
            self._ensure_switches()
        self._make_groups(missing)
        for host in self.spec.hosts:
            state.log_folder(host.name).mkdir(parents=True, exist_ok=True)
            if host.name in there:
                _pin_again(self.name, host.name, there[host.name])
                progress.advance()
        if missing:
            self.close()
            ours = any(each.kind == "cnm" for host in missing for each in host.daemons)
            spawner.hosts([self._plan(host, state) for host in missing], daemons=ours)
        for _ in missing:
            progress.advance()
        return [f"host {host.name}" for host in missing]

    def _make_groups(self, hosts: Sequence[model.Host]) -> None:
        try:
            groups.create(self.name, [host.name for host in hosts])
        except OSError as error:
            engines = [host.name for host in hosts if _engines(host)]
            if engines:
                raise LabError(f"{engines[0]}: control groups: {error.strerror}") from error

    def _ensure_switches(self) -> None:
        path = str(marks.netns_path(self.name, model.SWITCHES))
        if not os.path.exists(path) or not takedown.has_mark(self.name, model.SWITCHES, path):
            mark = marks.host_mark(self.name, model.SWITCHES)
            pin.create(path, lambda: _mark_loopback(mark))

    def _plan(self, host: model.Host, state: State) -> machine.Plan:
        forward = "1" if host.router else "0"
        return machine.Plan(
            lab=self.name,
            host=host.name,
            log_folder=str(state.log_folder(host.name)),
            files={
                "/etc/hostname": f"{host.name}\n",
                "/etc/hosts": hosts_file(self.spec, host),
                "/etc/resolv.conf": resolv_conf(host),
            },
            defaults=[
                ("net.ipv4.ip_forward", forward),
                ("net.ipv6.conf.all.forwarding", forward),
                # The kernel copies the machine's settings of IPv4 into each new namespace.
                *((f"net.ipv4.conf.{name}.rp_filter", "0") for name in ("all", "default")),
                # Addresses work at once: nobody else can have them, the lab file is checked.
                *((f"net.ipv6.conf.{name}.accept_dad", "0") for name in ("all", "default")),
            ],
            groups=groups.folders(self.name, host.name),
        )

    def _impair(self) -> list[str]:
        """Links that the file impairs, and with which nothing is wrong: it was never done."""
        made = []
        for link in self.spec.links:
            if link.impairment is not None and not impair.read(self.wire(link)):
                impair.apply(self.wire(link), link.impairment)
                made.append(f"impairment of {link.name}")
        return made

    def namespace_of(self, node: str) -> str:
        """Path of the namespace of a host, router or switch."""
        is_switch = any(switch.name == node for switch in self.spec.switches)
        return str(marks.netns_path(self.name, model.SWITCHES if is_switch else node))

    def wire(self, link: model.Link) -> impair.Wire:
        """A link with the namespaces of its ends."""
        first, second = link.ends
        return impair.Wire(link, (self.namespace_of(first.node), self.namespace_of(second.node)))

    def _set_sysctls(self, spaces: Mapping[str, NetNS]) -> None:
        for host in self.spec.hosts:
            if host.sysctls:
                with _at(host.name):
                    spaces[host.name].run(functools.partial(_write_sysctls, host.sysctls))

    def _fill(self, spawner: Spawner, progress: Progress) -> list[str]:
        """Daemons, networks and containers, a few hosts at a time; all are tried."""
        filled = [host for host in self if host.spec.daemons or host.spec.processes]
        if not filled:
            return []
        parts = sum(_parts(host.spec) for host in filled)
        progress.begin("content", parts)
        made: list[str] = []
        failures: list[CNMError | OSError] = []
        with ThreadPoolExecutor(_HOSTS_AT_ONCE, "netlab fill") as pool:
            jobs = [pool.submit(self._fill_host, host, spawner, progress) for host in filled]
            for job in as_completed(jobs):
                try:
                    made += job.result()
                except (CNMError, OSError) as error:
                    failures.append(error)
        if failures:
            raise LabError("; ".join(str(error) for error in failures))
        return made

    def _fill_host(self, host: Host, spawner: Spawner, progress: Progress) -> list[str]:
        made = []
        addresses = tuple(str(address.ip) for address in self.spec.addresses(host.name))
        for spec in sorted(host.spec.daemons, key=lambda each: each.kind == "cnm"):
            if daemons.start(host, spec, spawner, addresses):
                made.append(f"{spec.kind} on {host.name}")
            if spec.kind == "docker":
                # Before ours: it closes FORWARD only if it is itself who turns forwarding on.
                daemons.wait_until_ready(host, spec)
        for process in host.spec.processes:
            if processes.running(host.root, process.name) is None:
                spawner.process(host, process.name, process.command, processes.environment())
                made.append(f"process {process.name} on {host.name}")
            progress.advance()
        for spec in host.spec.daemons:
            daemons.wait_until_ready(host, spec)
            progress.advance()
            if spec.kind != "etcd":
                made += content.ensure(host, spec.kind, self.spec, progress.advance)
        return made


def hosts_file(lab: model.Lab, host: model.Host) -> str:
    """``/etc/hosts`` of a host: itself and all others, by their links' addresses."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    if not lab.addresses(host.name):
        lines.append(f"127.0.1.1 {host.name}")
    for other in lab.hosts:
        lines += [f"{address.ip} {other.name}" for address in lab.addresses(other.name)]
    return "".join(f"{line}\n" for line in lines)


def resolv_conf(host: model.Host) -> str:
    """``/etc/resolv.conf`` of a host: what the lab file says, nothing of the machine's."""
    lines = [f"nameserver {address}" for address in host.nameservers]
    if host.search:
        lines.append(f"search {' '.join(host.search)}")
    return "".join(f"{line}\n" for line in lines)


def _shape(lab: model.Lab) -> object:
    """What a lab that is up cannot change: all but its checks, impairments and path."""
    links = [(link.name, link.ends, link.mtu) for link in lab.links]
    return lab.name, lab.hosts, lab.switches, links, lab.images


def _engines(host: model.Host) -> list[model.Daemon]:
    return [daemon for daemon in host.daemons if daemon.kind != "etcd"]


def _parts(host: model.Host) -> int:
    return sum(map(len, (host.daemons, host.processes, host.networks, host.containers)))


def _pin_again(lab: str, host: str, pid: int) -> None:
    """Show a host's namespace to ip-netns(8), if the pin is gone or never was."""
    path = marks.netns_path(lab, host)
    try:
        shown = os.path.samestat(path.stat(), os.stat(f"/proc/{pid}/ns/net"))
    except FileNotFoundError:
        shown = False
    if not shown:
        pin.again(str(path), f"/proc/{pid}/ns/net")


def _mark_loopback(mark: str) -> None:
    with Netlink() as netlink:
        netlink.batch().set_link("lo", alias=mark, up=True).commit()


def _write_sysctls(pairs: tuple[tuple[str, str], ...]) -> None:
    for name, value in pairs:
        machine.write_sysctl(name, value)


@contextlib.contextmanager
def _at(host: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"{host}: {error.strerror or error}") from error


@contextlib.contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """The last line of progress is ended, whatever happens."""
    try:
        yield
    finally:
        progress.end()
