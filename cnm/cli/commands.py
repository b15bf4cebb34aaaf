"""The tree of commands: which there are, and which module each lives in.

Only this table is loaded to find a command; the module that runs it is imported
when it is called, so that no command pays for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from cnm.cli.command import Command, Flag


class Entry:
    """A command's place: ``module`` (below cnm.cli) and the name of its Command there."""

    __slots__ = ("aliases", "attribute", "module", "short")

    def __init__(
        self, short: str, module: str, attribute: str, aliases: Sequence[str] = ()
    ) -> None:
        self.short = short
        self.module = module
        self.attribute = attribute
        self.aliases = aliases

    def load(self) -> Command:
        """The command itself; imports its module."""
        command: Command = getattr(import_module(f"cnm.cli.{self.module}"), self.attribute)
        return command


class Daemon:
    """A command that the daemon's module reads itself: ``cnm.daemon.<function>(argv)``."""

    __slots__ = ("aliases", "function", "short")

    def __init__(self, short: str, function: str) -> None:
        self.short = short
        self.function = function
        self.aliases: Sequence[str] = ()


class Group:
    """Commands below a noun. ``unbuilt`` are the names that exist in no release yet."""

    __slots__ = ("aliases", "entries", "short", "unbuilt")

    def __init__(
        self,
        short: str,
        entries: Mapping[str, Entry | Daemon | Group],
        unbuilt: Sequence[str] = (),
        aliases: Sequence[str] = (),
    ) -> None:
        self.short = short
        self.entries = entries
        self.unbuilt = frozenset(unbuilt)
        self.aliases = aliases

    def find(self, name: str) -> Entry | Daemon | Group | None:
        """The command of this name or alias."""
        if name in self.entries:
            return self.entries[name]
        return next((entry for entry in self.entries.values() if name in entry.aliases), None)


DNS = Group(
    "Look into the embedded resolver",
    {
        "log": Entry("Show what containers ask, as it is answered", "dns", "LOG"),
        "stats": Entry("Show what was asked and answered, by container", "dns", "STATS"),
    },
)

FIREWALL = Group(
    "Look into the host's packet filter",
    {
        "check": Entry("Show who can reach each published port", "firewall", "CHECK"),
        "show": Entry("Show every rule and element of ours", "firewall", "SHOW"),
    },
)

NETWORK = Group(
    "Manage networks",
    {
        "connect": Entry("Connect a container to a network", "connection", "CONNECT"),
        "create": Entry("Create a network", "network", "CREATE"),
        "disconnect": Entry("Disconnect a container from a network", "connection", "DISCONNECT"),
        "dns": DNS,
        "doctor": Entry("Check the host, the networks and the kernel", "doctor", "DOCTOR"),
        "firewall": FIREWALL,
        "inspect": Entry(
            "Display detailed information on one or more networks", "network", "INSPECT"
        ),
        "ls": Entry("List networks", "network", "LS", aliases=("list",)),
        "prune": Entry("Remove all unused networks", "network", "PRUNE"),
        "publish": Entry("Publish ports of a container", "ports", "PUBLISH"),
        "rm": Entry("Remove one or more networks", "network", "RM", aliases=("remove",)),
        "unpublish": Entry("Take published ports of a container back", "ports", "UNPUBLISH"),
    },
    aliases=("network",),
)

CNM = Group(
    "Container networks: sandboxes, endpoints and networks on Linux",
    {
        "net": NETWORK,
        "adopt": Entry("Make a network namespace a container", "container", "ADOPT"),
        "release": Entry("Give adopted namespaces back", "container", "RELEASE"),
        "ps": Entry("List containers", "container", "PS"),
        "run": Entry("Create and run a new container from an image", "run", "RUN"),
        "create": Entry("Create a new container", "run", "CREATE"),
        "start": Entry("Start one or more stopped containers", "attach", "START"),
        "attach": Entry(
            "Attach standard input, output and error to a running container", "attach", "ATTACH"
        ),
        "exec": Entry("Run a command in a running container", "attach", "EXEC"),
        "stop": Entry("Stop one or more running containers", "lifecycle", "STOP"),
        "restart": Entry("Restart one or more containers", "lifecycle", "RESTART"),
        "kill": Entry("Kill one or more running containers", "lifecycle", "KILL"),
        "rm": Entry("Remove one or more containers", "lifecycle", "RM", aliases=("remove",)),
        "wait": Entry("Wait for containers to stop", "lifecycle", "WAIT"),
        "rename": Entry("Rename a container", "lifecycle", "RENAME"),
        "logs": Entry("Fetch the logs of a container", "looking", "LOGS"),
        "top": Entry("Display the running processes of a container", "looking", "TOP"),
        "port": Entry("List the published ports of a container", "looking", "PORT"),
        "images": Entry("List images", "image", "LIST"),
        "rmi": Entry("Remove one or more images", "image", "RMI"),
        "tag": Entry("Give an image a further name", "image", "TAG"),
        "import": Entry("Make an image of a root file system's tar", "archive", "IMPORT"),
        "load": Entry("Load the images of an archive", "archive", "LOAD"),
        "inspect": Entry(
            "Display detailed information on containers, networks and images",
            "objects",
            "INSPECT",
        ),
        "events": Entry("Print events of the daemon as they happen", "events", "EVENTS"),
        "info": Entry("Display what the daemon knows of itself and the host", "system", "INFO"),
        "version": Entry("Show the version of the command and the daemon", "system", "VERSION"),
        "completion": Entry("Print the completion script for a shell", "completion", "COMPLETION"),
        "daemon": Daemon("Run the daemon in the foreground", "main"),
        "uninstall": Daemon("Remove everything that the daemon has made", "uninstall"),
    },
    unbuilt=("cluster", "node", "service"),
)

GLOBAL_FLAGS = (
    Flag(
        "host",
        "string",
        "Socket of the daemon to talk to, unix://PATH; $CNM_HOST if not given",
        short="H",
        default="unix:///run/cnm/cnm.sock",
    ),
    Flag("version", "bool", "Print version information and quit", short="v"),
    Flag("help", "bool", "Print this help"),
)
