"""Lab files: YAML in, a checked :class:`~cnm.netlab.model.Lab` out, or all mistakes at once.

``document`` reads YAML with places; ``values``, ``hosts``, ``links``, ``content`` and ``checks``
know the keys; this module puts the parts in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cnm.netlab.errors import LabError, LabFileError
from cnm.netlab.labfile import content, values
from cnm.netlab.labfile.checks import CheckReader
from cnm.netlab.labfile.document import Field, Mistakes, Refused, parse
from cnm.netlab.labfile.hosts import HostDraft, check_routes, read_host, read_switch
from cnm.netlab.labfile.links import Draft, Wiring, check_addresses, check_switches
from cnm.netlab.model import Check, Image, Lab, Link, Switch

__all__ = ["load", "loads", "read"]

_KEYS = ("name", "hosts", "routers", "switches", "images", "checks", "reuse-addresses")


def load(path: Path | str) -> Lab:
    """The lab of a file.

    :raises LabFileError: what is wrong with it, each mistake with line and key.
    :raises LabError: it cannot be read.
    """
    return loads(read(Path(path)), Path(path))


def read(path: Path) -> str:
    """The text of a file.

    :raises LabError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise LabError(f"{path}: not a text file (UTF-8)") from None


def loads(text: str, path: Path, *, files: bool = True) -> Lab:
    """The lab of a text that was read from ``path``.

    ``files``: those that it names must be there.

    :raises LabFileError: what is wrong with it, each mistake with line and key.
    """
    mistakes = Mistakes(str(path))
    document = parse(text, mistakes)
    try:
        lab = _Reading(document, path, files).lab()
    except Refused:
        lab = None
    mistakes.raise_any()
    if lab is None:
        raise LabFileError(str(path), ())  # never: what is refused is noted
    return lab


class _Reading:
    """One file from top to bottom: nodes, then what joins them, then what is checked."""

    def __init__(self, document: Field, path: Path, files: bool) -> None:
        self._section = document.section(*_KEYS)
        self._path = path
        self._files = files
        self._host_fields: dict[str, Field] = {}
        self._switch_fields: dict[str, Field] = {}
        self._hosts: list[HostDraft] = []
        self._switches: list[Switch] = []
        self._cables: list[Draft] = []

    def lab(self) -> Lab:
        section = self._section
        folder = self._path.parent.absolute()

        def read_image(name: str, field: Field) -> Image:
            return content.read_image(name, field, folder, must_exist=self._files)

        images = section.named("images", read_image)
        self._read_nodes([image.name for image in images])
        links = self._links()
        lab = Lab(
            name=self._name(),
            path=self._path.absolute(),
            hosts=tuple(draft.host for draft in self._hosts),
            switches=check_switches(self._switches, links),
            links=links,
            images=images,
        )
        return self._with_checks(lab)

    def _name(self) -> str:
        field = self._section.get("name")
        if field is not None:
            return self._section.one("name", lambda item: item.parsed(values.lab_name), "")
        try:
            return values.lab_name(self._path.stem)
        except ValueError as error:
            self._section.field.refuse(f'the file\'s name is no good: {error}; or give it a "name"')
            return ""

    def _read_nodes(self, images: Sequence[str]) -> None:
        def read(router: bool) -> Callable[[str, Field], None]:
            return lambda name, item: self._read_host(name, item, images, router)

        self._section.named("hosts", read(False))
        self._section.named("routers", read(True))
        self._section.named("switches", self._read_switch)
        if not self._host_fields and "hosts" not in self._section:
            self._section.field.refuse('needs "hosts"')

    def _read_host(self, name: str, field: Field, images: Sequence[str], router: bool) -> None:
        self._take(name, field, self._host_fields)
        self._hosts.append(read_host(name, field, images, router=router))

    def _read_switch(self, name: str, field: Field) -> None:
        self._take(name, field, self._switch_fields)
        switch, drafts = read_switch(name, field)
        self._switches.append(switch)
        self._cables += drafts

    def _take(self, name: str, field: Field, fields: dict[str, Field]) -> None:
        other = self._host_fields.get(name) or self._switch_fields.get(name)
        fields.setdefault(name, field)
        if other is not None:
            raise field.refuse(f'"{name}" is already {other.key} in line {other.line}')

    def _links(self) -> tuple[Link, ...]:
        drafts = [*(link for host in self._hosts for link in host.links), *self._cables]
        reuse = self._section.one("reuse-addresses", lambda item: item.boolean(), False)
        check_addresses(drafts, doubles=reuse)
        found = Wiring(self._host_fields, self._switch_fields).links(drafts)
        for host in self._hosts:
            check_routes(host, found)
        return found

    def _with_checks(self, lab: Lab) -> Lab:
        reader = CheckReader(lab)
        found: tuple[Check, ...] = self._section.many("checks", reader.read)
        return replace(lab, checks=found)
