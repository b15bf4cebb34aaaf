"""What clients may ask of the supervisor, one method each.

A request is ``{"ask": name, …}``; an answer ``{"done": …}``, or ``{"failed": type, "text": …,
"code": …}``. Answers to ``start``, ``wait`` and ``destroy`` come when it is so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnm import codec
from cnm.errors import Conflict, NotFound
from cnm.runtime.container.contained import Container, Exec, Surroundings
from cnm.runtime.container.plan import ContainerPlan, ExecPlan
from cnm.runtime.kernel.packets import Message
from cnm.runtimeapi import WaitCondition

if TYPE_CHECKING:
    from cnm.runtime.container.supervisor import Connection, Supervisor

PROTOCOL = 1  # raised when a daemon of before could not speak to this one


class Requests:
    """The verbs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._verbs: dict[str, Callable[[Connection, Message], None]] = {
            "hello": self._hello,
            "create": self._create,
            "start": self._start,
            "kill": self._kill,
            "wait": self._wait,
            "status": self._status,
            "list": self._list,
            "destroy": self._destroy,
            "attach": self._attach,
            "resize": self._resize,
            "exec_create": self._exec_create,
            "exec_start": self._exec_start,
            "exec_status": self._exec_status,
            "watch": self._watch,
            "shutdown": self._shutdown,
        }

    def handle(self, connection: Connection, message: Message) -> None:
        """Carry out one request. :raises CNMError: to be answered."""
        verb = self._verbs.get(message.get("ask", ""))
        if verb is None:
            raise NotFound(f"the supervisor knows no {message.get('ask')!r}: restart it")
        verb(connection, message)

    @property
    def _around(self) -> Surroundings:
        return self._supervisor.around

    def _container(self, message: Message) -> Container:
        container = self._supervisor.containers.get(message["id"])
        if container is None:
            raise NotFound(f"No such container: {message['id']}")
        return container

    def _exec(self, exec_id: str) -> Exec:
        for container in self._supervisor.containers.values():
            if exec_id in container.execs:
                return container.execs[exec_id]
        raise NotFound(f"No such exec instance: {exec_id}")

    def _either(self, message: Message) -> Container | Exec:
        found = self._supervisor.containers.get(message["id"])
        return found if found is not None else self._exec(message["id"])

    def _hello(self, connection: Connection, _message: Message) -> None:
        connection.reply({"done": PROTOCOL})

    def _create(self, connection: Connection, message: Message) -> None:
        plan = codec.loads(ContainerPlan, message["plan"])
        if plan.spec.id in self._supervisor.containers:
            raise Conflict(f"container {plan.spec.id} exists already")
        container = Container(self._around, plan, None)
        try:
            self._around.places.write_plan(plan)
            self._around.places.write_state(container.saved)
        except OSError:
            shutil.rmtree(self._around.places.container(container.id), ignore_errors=True)
            raise
        self._supervisor.containers[container.id] = container
        connection.reply({"done": True})

    def _start(self, connection: Connection, message: Message) -> None:
        container = self._container(message)

        def answer(error: Exception | None) -> None:
            if error is not None:
                connection.fail(error)
            else:
                connection.reply({"done": codec.dumps(container.status())})

        container.start(answer, message.get("network_namespace") or "")

    def _kill(self, connection: Connection, message: Message) -> None:
        self._either(message).send_signal(message["signal"])
        connection.reply({"done": True})

    def _wait(self, connection: Connection, message: Message) -> None:
        """Two answers: at once that the wait stands, then the exit code."""
        found = self._either(message)
        condition = WaitCondition(message["condition"])
        connection.reply({"done": True})
        if condition is WaitCondition.NOT_RUNNING and _is_down(found):
            connection.reply({"done": _exit_code(found)})
            return
        take_back = found.waiters.add(condition, lambda code: connection.reply({"done": code}))
        connection.at_close.append(take_back)

    def _status(self, connection: Connection, message: Message) -> None:
        connection.reply({"done": codec.dumps(self._container(message).status())})

    def _list(self, connection: Connection, _message: Message) -> None:
        containers = self._supervisor.containers.values()
        connection.reply({"done": [codec.dumps(item.status()) for item in containers]})

    def _destroy(self, connection: Connection, message: Message) -> None:
        container = self._supervisor.containers.get(message["id"])
        if container is None:
            connection.reply({"done": True})
            return
        container.destroy(lambda: connection.reply({"done": True}))

    def _attach(self, connection: Connection, message: Message) -> None:
        stream = self._either(message).streams.attach(
            stdin=message["stdin"], stdout=message["stdout"], stderr=message["stderr"]
        )
        with stream:
            connection.reply({"done": True}, [stream.fileno()])

    def _resize(self, connection: Connection, message: Message) -> None:
        self._either(message).streams.resize(message["rows"], message["columns"])
        connection.reply({"done": True})

    def _exec_create(self, connection: Connection, message: Message) -> None:
        plan = codec.loads(ExecPlan, message["plan"])
        container = self._container({"id": plan.spec.container_id})
        if not container.running:
            raise Conflict(f"container {container.id} is not running")
        container.execs[plan.spec.id] = Exec(self._around, container, plan)
        connection.reply({"done": True})

    def _exec_start(self, connection: Connection, message: Message) -> None:
        execution = self._exec(message["id"])

        def answer(error: Exception | None) -> None:
            if error is not None:
                connection.fail(error)
            else:
                connection.reply({"done": codec.dumps(execution.status())})

        execution.start(answer)

    def _exec_status(self, connection: Connection, message: Message) -> None:
        connection.reply({"done": codec.dumps(self._exec(message["id"]).status())})

    def _watch(self, connection: Connection, _message: Message) -> None:
        watchers = self._supervisor.watchers
        watchers.append(connection)
        connection.at_close.append(lambda: watchers.remove(connection))
        connection.reply({"done": True})

    def _shutdown(self, connection: Connection, _message: Message) -> None:
        """Stop, if nothing runs: for an upgrade of the supervisor itself, and for removal."""
        busy = [item.id for item in self._supervisor.containers.values() if item.process]
        if busy:
            raise Conflict(f"{len(busy)} containers still run")
        connection.reply({"done": True})
        self._supervisor.loop.stop()


def _is_down(found: Container | Exec) -> bool:
    if isinstance(found, Container):
        return found.process is None
    return found.finished


def _exit_code(found: Container | Exec) -> int:
    if isinstance(found, Container):
        return found.saved.exit_code
    return found.exit_code or 0
