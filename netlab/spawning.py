"""Our side of the spawner: the process that forks hosts and daemons, see :mod:`.spawner`."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from cnm.netlab import groups, machine, marks, processes
from cnm.netlab.errors import LabError
from cnm.netlab.host import Host
from cnm.netlab.spawner import PACKET_BYTES

_END_WITHIN_S = 30.0  # it finishes what it was asked for


class Spawner:
    """Runs while a lab is brought up; a context manager. Any thread may ask.

    ``lock`` is the descriptor of the lab's lock, which it keeps for as long as it runs.
    """

    def __init__(self, lab: str, lock: int) -> None:
        self._lab = lab
        self._lock = lock
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * PACKET_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cnm.netlab.spawner", str(self._lock)],
                stdin=theirs.fileno(),
                cwd="/",
                pass_fds=(self._lock,),
            )
        self._channel = ours
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
        self._process.wait(_END_WITHIN_S)

    def hosts(self, plans: Sequence[machine.Plan], *, daemons: bool = False) -> dict[str, int]:
        """Make hosts, side by side; the pid of each one's first process.

        ``daemons``: some of ours will be asked for, which is prepared meanwhile.

        :raises LabError: those that could not be made; the others are there.
        """
        described = [dataclasses.asdict(plan) for plan in plans]
        answer = self._ask(do="hosts", plans=described, daemons=daemons)
        made: dict[str, int] = {}
        failed: list[str] = []
        for plan, result in zip(plans, answer["hosts"], strict=True):
            if "pid" in result:
                made[plan.host] = result["pid"]
            else:
                failed.append(f"host {plan.host}: {result['error']}")
        if failed:
            raise LabError("; ".join(failed))
        return made

    def process(
        self,
        host: Host,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        ours: bool = False,
    ) -> int:
        """Start a process that stays on a host; its pid. Its output goes to its log.

        ``ours``: a command line of our own program, which is forked: see :mod:`.preloaded`.

        :raises LabError: it cannot be run.
        """
        answer = self._ask(
            do="process",
            process={
                "host_pid": host.pid,
                "netns": str(marks.netns_path(host.lab, host.name)),
                "command": list(command),
                "environment": dict(environment),
                "log": f"/var/log/{name}.log",
                "pid_file": processes.pid_file(name),
                "groups_of_host": [group for _, group in groups.folders(host.lab, host.name)],
                "ours": ours,
            },
        )
        if "error" in answer:
            raise LabError(f"{host.name}: {name}: {answer['error']}")
        return int(answer["pid"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._turn:
            try:
                self._channel.send(json.dumps(request).encode())
                data = self._channel.recv(PACKET_BYTES)
            except OSError as error:
                raise LabError(f"the spawner of lab {self._lab} ended: {error}") from error
        if not data:
            raise LabError(f"the spawner of lab {self._lab} ended")
        answer: dict[str, Any] = json.loads(data)
        if "hosts" not in answer and "pid" not in answer and request["do"] == "hosts":
            raise LabError(str(answer["error"]))
        return answer
