"""W3 of the walk-through: a published port, and everybody who reaches it or does not."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess

from demostage import Failed, Stage, paint, say, title

HOST, HOST6 = "192.0.2.1", "2001:db8::1"
LAN, LAN6 = "192.0.2.2", "2001:db8::2"
_SERVER = """
import http.server, socket, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"you are {self.client_address[0].removeprefix('::ffff:')}\\n".encode())
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Answer).serve_forever()
"""


def play(stage: Stage) -> None:
    serve, lan = prepare(stage)
    title("A published port: W3, row by row")
    stage.show(f"cnm run -d --name web --network localnet --publish 5005:80 host {serve}")
    stage.show("cnm port web", "80/tcp -> 0.0.0.0:5005", "80/tcp -> [::]:5005")
    say("an outside client; the server sees its own address, in both families:")
    ask(stage, HOST, f"you are {LAN}", lan)
    ask(stage, f"[{HOST6}]", "you are ", lan)
    say("a container on another network, the host itself, web itself and a neighbour:")
    stage.show(f"cnm run --rm host {asking(HOST)}", "you are ")
    for address in ("127.0.0.1", "[::1]", HOST):
        ask(stage, address, "you are ", stage.host)
    stage.show(f"cnm exec web {asking(HOST)}", "you are ")
    stage.show(f"cnm run --rm --network localnet host {asking(HOST)}", "you are ")
    taken(stage, serve)
    kinds(stage, serve, lan)
    while_it_runs(stage, lan)
    stage.show("cnm rm -f web", "web")
    stage.show("net rm localnet", "localnet")
    subprocess.run(["ip", "netns", "delete", lan], check=True)


def prepare(stage: Stage) -> tuple[str, str]:
    """A LAN beside the host, and a server that says who asked: its command, the client."""
    title("A neighbour on the host's LAN, and a network")
    lan = f"{stage.tag}-lan"
    stage.show(f"ip netns add {lan}")
    stage.show(f"ip -n {stage.host} link add lan0 type veth peer name lan0 netns {lan}")
    for namespace, v4, v6 in ((stage.host, HOST, HOST6), (lan, LAN, LAN6)):
        stage.show(f"ip -n {namespace} address add {v4}/24 dev lan0")
        stage.show(f"ip -n {namespace} address add {v6}/64 dev lan0 nodad")
        stage.show(f"ip -n {namespace} link set lan0 up")
    stage.show("net create localnet")
    script = stage.folder / "server.py"
    script.write_text(_SERVER)
    script.chmod(0o644)
    stage.folder.chmod(0o755)
    return f"/usr/bin/python3 {script}", lan


def asking(address: str, port: int = 5005) -> str:
    retry = "--retry 20 --retry-delay 1 --retry-connrefused"  # the server takes a moment to start
    return f"curl -sS -m 5 {retry} http://{address}:{port}/"


def ask(stage: Stage, address: str, wanted: str, namespace: str, port: int = 5005) -> None:
    stage.show(f"ip netns exec {namespace} {asking(address, port)}", wanted)


def silent(stage: Stage, address: str, namespace: str, port: int) -> None:
    """Nobody answers: curl's 7 is a refusal, 28 the time-out."""
    command = f"ip netns exec {namespace} curl -sS -m 2 http://{address}:{port}/"
    say(paint(f"$ {command}", "1"))
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    say(done.stderr.strip())
    if done.returncode not in (7, 28):
        raise Failed(f"`{command}` ended with {done.returncode}, not with 7 or 28")


def taken(stage: Stage, serve: str) -> None:
    say("a second container cannot have the port, and is told who has it:")
    refusal = "Bind for 0.0.0.0:5005 failed: port is already allocated (held by container web)"
    stage.show(f"cnm run -d --name web2 -p 5005:80 host {serve}", refusal, status=125)
    stage.show("cnm ps -a --filter name=web2", "Created")
    stage.show("cnm rm web2", "web2")


def kinds(stage: Stage, serve: str, lan: str) -> None:
    say("a random port, one on loopback, a range, udp, any of a range, all that is exposed:")
    flags = "-p 80 -p 127.0.0.1:5006:80 -p 5000-5004:90-94 -p 53:53/udp -p 8000-8010:81"
    stage.show(f"cnm run -d --name many {flags} -P --expose 7/udp host {serve}")
    wanted = (*("90/tcp -> 0.0.0.0:5000", "94/tcp -> [::]:5004", "53/udp -> 0.0.0.0:53"), "7/udp")
    stage.show("cnm port many", "80/tcp -> 127.0.0.1:5006", "81/tcp -> 0.0.0.0:8000", *wanted)
    ask(stage, "127.0.0.1", "you are ", stage.host, 5006)
    silent(stage, HOST, lan, 5006)
    stage.show("cnm rm -f many", "many")
    if has_sctp():
        stage.show("cnm run --rm -p 9:9/sctp host true")
    else:
        say("this kernel has no SCTP, which is said before anything is made:")
        stage.show("cnm run --rm -p 9:9/sctp host true", "no SCTP", status=125)
    for wrong in ("65536:80", "5005:0", "5000-5010:80-81", "192.0.2.77:80:80"):
        stage.show(f"cnm run --rm -p {wrong} host true", status=125)


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def while_it_runs(stage: Stage, lan: str) -> None:
    title("Ports of a container that runs; who reaches them; and the daemon killed")
    stage.show("net publish web 5007:80", "80/tcp -> 0.0.0.0:5007")
    ask(stage, HOST, f"you are {LAN}", lan, 5007)
    stage.show("net firewall check web", "0.0.0.0:5007")
    stage.show("net unpublish web 5007:80")
    silent(stage, HOST, lan, 5007)
    stage.stop(signal.SIGKILL)
    say("no daemon runs now:")
    ask(stage, HOST, f"you are {LAN}", lan)
    ask(stage, "[::1]", "you are ", stage.host)
    stage.start()
    stage.show("cnm port web", "80/tcp -> 0.0.0.0:5005")
