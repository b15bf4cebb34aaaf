"""A host of a lab that is up: commands on it, its files, its daemons' APIs."""

from __future__ import annotations

import json
import subprocess
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnm.netlab import marks, model, processes
from cnm.netlab.engineapi import EngineApi
from cnm.netlab.errors import HostCommandFailed, LabError

RUN_WITHIN_S = 60.0
SOCKETS: Mapping[str, str] = {"cnm": "/run/cnm/cnm.sock", "docker": "/run/docker.sock"}

Completed = subprocess.CompletedProcess[str]


class Host:
    """One host. ``pid`` is its first process; ``spec`` is what the lab file says of it."""

    def __init__(self, lab: str, spec: model.Host, pid: int) -> None:
        self.lab = lab
        self.spec = spec
        self.pid = pid
        self._begun: weakref.WeakSet[subprocess.Popen[str]] = weakref.WeakSet()
        self._inside = processes.Inside(pid, str(marks.netns_path(lab, spec.name)))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def netns(self) -> str:
        """Its name for ``ip -n`` and ``ip netns exec``."""
        return marks.netns_path(self.lab, self.name).name

    @property
    def root(self) -> Path:
        """Its file system, seen from here: ``host.root / "run/cnm"``."""
        return Path(f"/proc/{self.pid}/root")

    def run(
        self,
        *command: str,
        check: bool = True,
        input: str | None = None,
        timeout_s: float = RUN_WITHIN_S,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """A command on the host, to its end; its output as text.

        :raises HostCommandFailed: with ``check``, when it ends with another status than 0.
        :raises LabError: it cannot be run, or takes longer than ``timeout_s``; it is killed then.
        """
        process = self.popen(
            *command,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            environment=environment,
        )
        with process:
            try:
                out, err = process.communicate(input, timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                words = " ".join(command)
                raise LabError(f"{self.name}: {words}: not done after {timeout_s:g} s") from None
            except BaseException:
                process.kill()
                raise
        if check and process.returncode != 0:
            raise HostCommandFailed(self.name, command, process.returncode, out, err)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def popen(
        self, *command: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """A command on the host, begun; ``options`` are Popen's. It ends with the lab.

        :raises LabError: it cannot be run.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("cwd", "/")
        options["env"] = processes.environment(environment)
        try:
            process = self._inside.popen(command, **options)
        except OSError as error:
            reason = error.strerror or error
            raise LabError(f"{self.name}: {command[0]}: {reason}") from error
        self._begun.add(process)
        return process

    def ip(self, *arguments: str) -> Any:
        """What ``ip -j …`` says on the host, decoded."""
        text = self.run("ip", "-j", *arguments).stdout
        return [item for item in json.loads(text) if item] if text.strip() else []

    def cnm(self, *arguments: str, check: bool = True) -> Completed:
        """``cnm …`` on the host's own daemon."""
        return self.run("cnm", *arguments, check=check)

    def net(self, *arguments: str, check: bool = True) -> Completed:
        """``net …`` on the host's own daemon."""
        return self.run("net", *arguments, check=check)

    def docker(self, *arguments: str, check: bool = True) -> Completed:
        """``docker …`` on the host's own dockerd."""
        return self.run("docker", *arguments, check=check)

    def api(self, engine: str = "cnm") -> EngineApi:
        """The API of its daemon ``cnm`` or ``docker``, to be closed."""
        return EngineApi(f"{self.root}{SOCKETS[engine]}")

    def log(self, name: str) -> str:
        """What its daemon (``cnm``, ``docker``, ``etcd``) or process has written so far."""
        path = self.log_file(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def log_file(self, name: str) -> Path:
        """``/var/log/<name>.log`` of the host, as a file here; it outlives the host."""
        return marks.STATE_FOLDER / self.lab / "log" / self.name / f"{name}.log"

    def process(self, name: str) -> int | None:
        """The pid, as we count, of its daemon or background process; ``None`` if it has ended."""
        inner = processes.running(self.root, name)
        return None if inner is None else processes.outer_pid(self.pid, inner)

    def close(self) -> None:
        """Let go of the host; what :meth:`popen` began goes on, the next command enters again."""
        self._inside.close()

    def end_processes(self) -> None:
        """Kill what :meth:`popen` began: a host ends when its processes were waited for."""
        for process in list(self._begun):
            if process.poll() is None:
                process.kill()
                process.wait()

    def __repr__(self) -> str:
        return f"<host {self.netns}>"
