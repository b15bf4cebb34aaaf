"""What is on a wire: frames that tcpdump wrote down, read by scapy."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel.drivers.lab import Place
from patience import patient

_FLUSHED_S = 0.1  # tcpdump writes each packet at once (-U), after the kernel gave it


@contextlib.contextmanager
def captured(place: Place, device: str, filter: str = "") -> Iterator[list[Any]]:
    """The frames that pass a device meanwhile, as scapy has them; there when the block ends."""
    frames: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="cnmt-") as folder:
        file = Path(folder, "wire.pcap")
        process = subprocess.Popen(
            ["ip", "netns", "exec", place.namespace.name]
            + ["tcpdump", "-i", device, "-Z", "root", "-U", "--immediate-mode", "-w", str(file)]
            + filter.split(),
            stderr=subprocess.PIPE,
        )
        try:
            _wait_until_it_listens(process)
            yield frames
            time.sleep(_FLUSHED_S)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=patient(20))
        frames += _read(file)


def _wait_until_it_listens(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    said, end = b"", time.monotonic() + patient(20)
    while b"listening on" not in said:
        ready, _, _ = select.select([process.stderr], [], [], max(end - time.monotonic(), 0))
        assert ready, f"tcpdump does not listen: {said.decode()}"
        more = os.read(process.stderr.fileno(), 4096)
        assert more, f"tcpdump ended: {said.decode()}"
        said += more


def _read(file: Path) -> list[Any]:
    from scapy.utils import rdpcap

    for layer in ("l2", "inet"):  # rdpcap knows the layers that are loaded
        importlib.import_module(f"scapy.layers.{layer}")
    return list(rdpcap(str(file)))


def macs(frames: list[Any]) -> set[tuple[str, str]]:
    """Source and destination of each frame."""
    return {(frame.src, frame.dst) for frame in frames}


def tags(frames: list[Any]) -> set[int]:
    """The VLANs that frames are tagged with; 0: none."""
    from scapy.layers.l2 import Dot1Q

    return {frame[Dot1Q].vlan if Dot1Q in frame else 0 for frame in frames}
