"""A host in a namespace, a client on its LAN, and programs that tell who asked them."""

from __future__ import annotations

import subprocess
import sys
import time

from livedaemon import COMMAND_TIMEOUT_S, LiveDaemon, run
from patience import patient

HOST, HOST6 = "192.0.2.1", "2001:db8::1"
CLIENT, CLIENT6 = "192.0.2.2", "2001:db8::2"

# Answers each connection, or datagram, with the address that it came from.
SERVER = """
import socket, sys, threading
kind, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6
server = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("::", port))
def said(peer):
    return peer[0].removeprefix("::ffff:").encode()
if kind == "tcp":
    server.listen(100)
    while True:
        link, peer = server.accept()
        link.sendall(said(peer))
        link.close()
while True:
    _, peer = server.recvfrom(2048)
    server.sendto(said(peer), peer)
"""

# Prints what a server answers, or nothing if it is not reached within two seconds a try.
ASK = """
import socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as link:
    link.settimeout(2)
    try:
        link.connect((host, port))
        if kind == "udp":
            link.send(b"?")
        print(link.recv(100).decode())
    except OSError:
        pass
"""


def server(kind: str = "tcp", port: int = 80) -> list[str]:
    """A container's command on the image ``host``."""
    return [sys.executable, "-c", SERVER, kind, str(port)]


class Lan:
    """The daemon's namespace as a host, with a client beside it."""

    def __init__(self, live: LiveDaemon) -> None:
        self.live = live
        self.host = live.netns
        self.client = live.namespace("client")
        run("ip", "-n", self.host, "link", "set", "lo", "up")
        run("ip", "-n", self.client, "link", "set", "lo", "up")
        run(
            *("ip", "-n", self.host, "link", "add", "lan0", "type", "veth"),
            *("peer", "name", "lan0", "netns", self.client),
        )
        for netns, v4, v6 in ((self.host, HOST, HOST6), (self.client, CLIENT, CLIENT6)):
            run("ip", "-n", netns, "address", "add", f"{v4}/24", "dev", "lan0")
            run("ip", "-n", netns, "address", "add", f"{v6}/64", "dev", "lan0", "nodad")
            run("ip", "-n", netns, "link", "set", "lan0", "up")

    def serving(self, container: str, port: int = 80) -> None:
        """Wait for a container's server: it starts after the container, and is refused before."""
        shown = self.live.docker("inspect", "-f", "{{.State.Pid}}", container)
        command = ("nsenter", "-n", "-t", shown.stdout.strip(), "ss", "-Htuln", f"sport = :{port}")
        deadline = time.monotonic() + patient(30)
        while not run(*command).stdout:
            assert time.monotonic() < deadline, f"never: {container} listens on {port}"
            time.sleep(0.05)

    def ask(self, address: str, port: int, kind: str = "tcp", netns: str | None = None) -> str:
        """What a server says of who asks; empty: it is not reached. From the client by default."""
        command = ("ip", "netns", "exec", netns or self.client)
        words = (sys.executable, "-c", ASK, kind, address, str(port))
        return run(*command, *words).stdout.strip()

    def occupy(self, port: int) -> subprocess.Popen[bytes]:
        """Another program of the host's that has a port."""
        code = f"import socket; s = socket.create_server(('', {port})); print(flush=True); input()"
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.host, sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n", f"within {COMMAND_TIMEOUT_S} s"
        return process
