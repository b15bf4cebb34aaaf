"""Gives JSON documents the Go types that templates see: struct, map or time.

A template treats the two kinds of JSON object differently: a struct's fields are
fixed and keep their order, a map's keys are free and sorted. JSON does not tell
them apart, so the paths of the maps are listed here, with the fields that Docker
leaves out of a document when they are empty but offers to templates.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnm.cli.values import Absent, AbsentList, Struct, Time


class Shape:
    """Where a document's maps, lists and times are.

    Paths are dotted; ``[]`` stands for every item of a list, ``*`` for every value of
    a map. ``omitted`` names fields, by the path of their struct, with the value that
    stands for leaving them out. ``aliases`` are Go's names of fields, where they differ.
    """

    __slots__ = ("aliases", "lists", "maps", "omitted", "times")

    def __init__(
        self,
        maps: frozenset[str],
        lists: frozenset[str] = frozenset(),
        times: frozenset[str] = frozenset(),
        omitted: Mapping[str, Mapping[str, object]] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.maps = maps
        self.lists = lists
        self.times = times
        self.omitted = omitted or {}
        self.aliases = aliases or {}

    def apply(self, value: object, path: str = "") -> object:
        """The value with its objects, times and nulls as Go would hold them."""
        if value is None:
            return self._null(path)
        if isinstance(value, dict):
            return self._map(value, path) if path in self.maps else self._struct(value, path)
        if isinstance(value, list):
            return [self.apply(item, f"{path}[]") for item in value]
        if path in self.times and isinstance(value, str):
            return Time(value)
        return value

    def _null(self, path: str) -> object:
        if path in self.maps:
            return Absent()
        return AbsentList() if path in self.lists else None

    def _map(self, value: Mapping[str, object], path: str) -> dict[str, object]:
        return {key: self.apply(item, f"{path}.*") for key, item in value.items()}

    def _struct(self, value: Mapping[str, object], path: str) -> Struct:
        prefix = f"{path}." if path else ""
        fields = {key: self.apply(item, prefix + key) for key, item in value.items()}
        return Struct(fields, self.omitted.get(path), self.aliases)


NETWORK = Shape(
    maps=frozenset(
        {
            "IPAM.Options",
            "IPAM.Config[].AuxiliaryAddresses",
            "Containers",
            "Options",
            "Labels",
            "Services",
            "Status.IPAM.Subnets",
        }
    ),
    lists=frozenset({"IPAM.Config", "Peers"}),
    times=frozenset({"Created"}),
    omitted={
        "": {"Peers": AbsentList(), "Services": Absent()},
        "IPAM.Config[]": {
            "Subnet": "",
            "IPRange": "",
            "Gateway": "",
            "AuxiliaryAddresses": Absent(),
        },
    },
    aliases={"ID": "Id", "AuxAddress": "AuxiliaryAddresses"},
)

CONTAINER = Shape(
    maps=frozenset(
        {
            "Config.Labels",
            "Config.ExposedPorts",
            "Config.Volumes",
            "GraphDriver.Data",
            "HostConfig.Annotations",
            "HostConfig.LogConfig.Config",
            "HostConfig.PortBindings",
            "HostConfig.StorageOpt",
            "HostConfig.Sysctls",
            "HostConfig.Tmpfs",
            "NetworkSettings.Networks",
            "NetworkSettings.Networks.*.DriverOpts",
            "NetworkSettings.Ports",
        }
    ),
    lists=frozenset(
        {
            "Args",
            "Config.Cmd",
            "Config.Entrypoint",
            "Config.Env",
            "ExecIDs",
            "Mounts",
            "NetworkSettings.Networks.*.Aliases",
            "NetworkSettings.Networks.*.DNSNames",
            "NetworkSettings.Networks.*.Links",
            "NetworkSettings.Ports.*",
        }
    ),
    aliases={"ID": "Id"},
)

IMAGE = Shape(
    maps=frozenset({"Config.Labels", "Config.ExposedPorts", "Config.Volumes", "GraphDriver.Data"}),
    lists=frozenset({"Config.Cmd", "Config.Entrypoint", "Config.Env", "RepoDigests", "RepoTags"}),
    aliases={"ID": "Id"},
)
