"""ADD, DEL, CHECK, GC and STATUS over the daemon's socket."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from cnm.cli.client import DEFAULT_HOST, Client, socket_path
from cnm.cli.errors import CommandError, ConnectionFailed, ConnectionLost, DaemonError
from cnm.cni import conf, results
from cnm.cni.errors import (
    DIFFERS,
    INVALID_CONFIG,
    IO_FAILURE,
    NOT_AVAILABLE,
    REFUSED,
    TRY_AGAIN_LATER,
    CniError,
)
from cnm.cni.inside import Inside
from cnm.cni.invocation import Invocation
from cnm.daemon import pending

_PATH = "/cnm/v1/attachments"
_UNAVAILABLE = 503
_GOES_ON = re.compile(r"([:?]); ")


class Verbs:
    """The steps of one invocation."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        host = call.conf.get("host") or os.environ.get("CNM_HOST") or DEFAULT_HOST
        try:
            self._socket = socket_path(str(host))
        except CommandError as error:
            raise CniError(INVALID_CONFIG, f"invalid network config: {error}") from None
        self._client = Client(str(host))
        self._key = {
            "Network": call.network,
            "Container": call.container,
            "Interface": call.interface,
        }

    def run(self) -> dict[str, Any] | None:
        """What is printed, if anything. :raises CniError: with what is wrong."""
        steps = {
            "ADD": self._add,
            "DEL": self._delete,
            "CHECK": self._check,
            "GC": self._collect,
            "STATUS": self._status,
        }
        return steps[self._call.command]()

    def _add(self) -> dict[str, Any]:
        call = self._call
        conf.check(call)
        network, existing = conf.network(call)
        results.previous(call)  # refused before anything is made
        body = {
            **self._key,
            "Netns": call.netns,
            "Create": network,
            "Existing": existing,
            "Mtu": call.conf.get("mtu", 0),
            "EndpointConfig": conf.endpoint(call),
            "NameServers": conf.name_servers(call),
            "PortBindings": conf.port_bindings(call),
        }
        conf.search(call)
        if pending.is_kept(self._socket, self._key):
            self._delete()  # of a former life of this container
        return results.of_add(call, self._ask(_PATH, body))

    def _delete(self) -> None:
        """Done, or written down for the daemon that starts next."""
        if self._removed():
            return
        try:
            pending.keep(self._socket, self._key)
        except OSError as error:
            raise CniError(IO_FAILURE, f"no daemon, and DEL cannot be kept: {error}") from None
        self._removed()  # it may have started in between, and looked already

    def _removed(self) -> bool:
        try:
            self._client.post(f"{_PATH}/remove", self._key)
        except (ConnectionFailed, ConnectionLost):  # none there, or one that was killed at it
            return False
        except CommandError as error:
            raise _failure(error) from None
        pending.drop(self._socket, self._key)
        return True

    def _check(self) -> None:
        call = self._call
        conf.check(call)
        before = results.previous(call)
        if before is None:
            raise CniError(INVALID_CONFIG, "required prevResult missing")
        try:
            attached = self._ask(f"{_PATH}/find", self._key)
        except CniError as error:
            if error.code == INVALID_CONFIG:  # the daemon's "not found"
                raise CniError(DIFFERS, str(error)) from None
            raise
        missing = [*_not_told(call, before, attached), *Inside(call.netns).missing(attached)]
        if missing:
            raise CniError(DIFFERS, f"container {call.container}: {'; '.join(missing)}")

    def _collect(self) -> None:
        valid = self._call.conf.get("cni.dev/valid-attachments") or []
        try:
            known = [
                {"Container": item["containerID"], "Interface": item["ifname"]} for item in valid
            ]
        except (TypeError, KeyError):
            raise CniError(
                INVALID_CONFIG, "cni.dev/valid-attachments must have containerID and ifname"
            ) from None
        self._ask(f"{_PATH}/collect", {"Network": self._call.network, "Valid": known})

    def _status(self) -> None:
        conf.check(self._call)
        network, existing = conf.network(self._call)
        try:
            self._client.get("/_ping" if not existing else f"/networks/{network['Name']}")
        except CommandError as error:
            raise CniError(NOT_AVAILABLE, _line(error)) from None

    def _ask(self, path: str, body: object) -> dict[str, Any]:
        try:
            answer = self._client.post(path, body)
        except CommandError as error:
            raise _failure(error) from None
        if not isinstance(answer, dict):
            raise CniError(IO_FAILURE, "the daemon's answer is no JSON object")
        return answer


def _failure(error: CommandError) -> CniError:
    if isinstance(error, ConnectionFailed | ConnectionLost):
        return CniError(TRY_AGAIN_LATER, _line(error))
    if not isinstance(error, DaemonError):
        return CniError(IO_FAILURE, _line(error))
    if error.code == _UNAVAILABLE:
        return CniError(TRY_AGAIN_LATER, _line(error))
    mistake = error.code in (400, 404)
    return CniError(INVALID_CONFIG if mistake else REFUSED, _line(error))


def _line(error: CommandError) -> str:
    """One line of what may be several; one that ends as if it went on does."""
    text = str(error).removeprefix("Error response from daemon: ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _GOES_ON.sub(r"\1 ", "; ".join(lines))


def _not_told(
    call: Invocation, before: Mapping[str, Any], attached: Mapping[str, Any]
) -> list[str]:
    """What the runtime has of another life: addresses that are no more ours."""
    told = {item.get("address") for item in before.get("ips", [])}
    names = {item.get("name") for item in before.get("interfaces", [])}
    wrong = [
        f"address {item['Address']} is not in prevResult"
        for item in attached["Addresses"]
        if item["Address"] not in told
    ]
    return wrong if call.interface in names else [*wrong, f"{call.interface} is not in prevResult"]
