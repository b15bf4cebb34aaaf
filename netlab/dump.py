"""Everything worth a look when something in a lab has failed, as files in a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnm.errors import CNMError
from cnm.netlab import marks, model
from cnm.netlab.host import Host
from cnm.netlab.lab import Lab

_WITHIN_S = 10.0  # each look; a host that hangs must not keep the others from being seen

_NETWORK: Mapping[str, Sequence[str]] = {
    "addresses": ("ip", "-d", "-s", "address"),
    "routes": ("ip", "route", "show", "table", "all"),
    "routes6": ("ip", "-6", "route", "show", "table", "all"),
    "neighbours": ("ip", "neighbour"),
    "fdb": ("bridge", "fdb"),
    "ports": ("bridge", "-d", "link"),
    "qdiscs": ("tc", "-s", "qdisc"),
    "rules": ("nft", "list", "ruleset"),
    "sockets": ("ss", "-anp"),
}
_HOST: Mapping[str, Sequence[str]] = {
    "processes": ("ps", "axfww", "-o", "pid,ppid,stat,etime,args"),
    "mounts": ("cat", "/proc/mounts"),
}
_ENGINES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "cnm": {
        "cnm-networks": ("net", "ls", "--no-trunc"),
        "cnm-containers": ("cnm", "ps", "-a", "--no-trunc"),
        "cnm-doctor": ("net", "doctor"),
    },
    "docker": {
        "docker-networks": ("docker", "network", "ls", "--no-trunc"),
        "docker-containers": ("docker", "ps", "-a", "--no-trunc"),
    },
}


def dump(lab: Lab, folder: Path) -> None:
    """Write a folder for each host (and the switches) of a lab that is up, wholly or in part."""
    for spec in lab.spec.hosts:
        place = folder / spec.name
        place.mkdir(parents=True, exist_ok=True)
        _copy_logs(lab.name, spec.name, place)
        try:
            host = lab[spec.name]
        except CNMError as error:
            (place / "not-up.txt").write_text(f"{error}\n")
            continue
        _dump_host(host, place)
    if lab.spec.switches:
        _dump_switches(lab, folder / model.SWITCHES)


def _dump_host(host: Host, place: Path) -> None:
    looks = {**_NETWORK, **_HOST}
    for daemon in host.spec.daemons:
        looks.update(_ENGINES.get(daemon.kind, {}))
    for name, command in looks.items():
        try:
            done = host.run(*command, check=False, timeout_s=_WITHIN_S)
            text = f"{done.stdout}{done.stderr}"
        except CNMError as error:
            text = f"{error}\n"
        (place / f"{name}.txt").write_text(text)


def _dump_switches(lab: Lab, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, command in _NETWORK.items():
        done = subprocess.run(
            ["ip", "netns", "exec", lab.netns, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_WITHIN_S,
            check=False,
        )
        (place / f"{name}.txt").write_bytes(done.stdout)


def _copy_logs(lab: str, host: str, place: Path) -> None:
    logs = marks.STATE_FOLDER / lab / "log" / host
    if logs.is_dir():
        shutil.copytree(logs, place, dirs_exist_ok=True)
