"""The ``checks`` of a lab file, read when hosts, containers and links are known."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Literal, cast

from cnm.netlab import quantities
from cnm.netlab.labfile import values
from cnm.netlab.labfile.document import Field, Refused, Section, nearest
from cnm.netlab.model import (
    Check,
    Host,
    Http,
    Lab,
    Packets,
    Ping,
    Place,
    Probe,
    Reach,
    Resolve,
    Run,
    Target,
    Throughput,
    Traceroute,
    Traffic,
)

_RECORDS = ("A", "AAAA", "PTR", "SRV", "TXT", "CNAME", "MX", "NS", "SOA")


class CheckReader:
    """Reads checks of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._traffic: Mapping[str, Callable[[Field], Traffic]] = {
            "ping": self._ping,
            "resolve": self._resolve,
            "http": self._http,
            "tcp": lambda field: self._reach(field, "tcp"),
            "udp": lambda field: self._reach(field, "udp"),
            "traceroute": self._traceroute,
            "throughput": self._throughput,
            "run": self._run,
        }
        self._kinds: Mapping[str, Callable[[Field], Probe]] = {
            **self._traffic,
            "packets": self._packets,
        }

    def read(self, field: Field) -> Check:
        """One member of ``checks``."""
        section = field.section("name", "expect", "within", *self._kinds)
        kind, probe = self._only(section, self._kinds)
        return Check(
            name=section.one("name", lambda item: item.text(), "") or describe(kind, probe),
            kind=kind,
            probe=probe,
            expect=section.one("expect", lambda item: item.boolean(), True),
            within_s=section.one("within", lambda item: item.parsed(quantities.seconds), 5.0),
            line=field.line,
        )

    def _only(
        self, section: Section, kinds: Mapping[str, Callable[[Field], Probe]]
    ) -> tuple[str, Probe]:
        """The one kind of probe that a mapping names."""
        given = [kind for kind in kinds if kind in section]
        if not given and not section.clean:
            raise Refused  # a misspelt kind: that is said
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise section.field.refuse(f"needs one of {', '.join(kinds)}; it has {found}")
        return given[0], section.need(given[0], kinds[given[0]])

    def _ping(self, field: Field) -> Ping:
        keys = ("from", "to", "family", "count", "size", "dont-fragment")
        section = field.section(*keys)
        return Ping(
            source=section.need("from", self._place),
            target=section.need("to", self._target),
            family=section.one("family", _family, None),
            count=section.one("count", lambda item: item.integer(1, 1000), 1),
            size=section.one("size", lambda item: item.integer(0, 65507), None),
            dont_fragment=section.one("dont-fragment", lambda item: item.boolean(), False),
        )

    def _resolve(self, field: Field) -> Resolve:
        section = field.section("from", "name", "record", "answers", "server")
        return Resolve(
            source=section.need("from", self._place),
            name=section.need("name", lambda item: item.text()),
            record=section.one("record", lambda item: item.choice(*_RECORDS), "A"),
            answers=section.many("answers", lambda item: item.text()),
            server=section.one("server", self._target, None),
        )

    def _http(self, field: Field) -> Http:
        section = field.section("from", "url", "status", "contains")
        return Http(
            source=section.need("from", self._place),
            url=section.need("url", lambda item: item.parsed(_url)),
            status=section.one("status", lambda item: item.integer(100, 599), 200),
            contains=section.one("contains", lambda item: item.text(), None),
        )

    def _reach(self, field: Field, transport: Literal["tcp", "udp"]) -> Reach:
        section = field.section("from", "to", "port")
        return Reach(
            source=section.need("from", self._place),
            target=section.need("to", self._target),
            port=section.need("port", lambda item: item.integer(1, 65535)),
            transport=transport,
        )

    def _traceroute(self, field: Field) -> Traceroute:
        section = field.section("from", "to", "hops", "via")
        made = Traceroute(
            source=section.need("from", self._place),
            target=section.need("to", self._target),
            hops=section.one("hops", lambda item: item.integer(1, 30), None),
            via=section.many("via", lambda item: item.parsed(values.address)),
        )
        if made.hops is None and not made.via:
            if field.is_flawed:
                raise Refused  # what was given is wrong: that is said
            raise field.refuse('needs "hops" or "via"')
        return made

    def _throughput(self, field: Field) -> Throughput:
        section = field.section("from", "to", "at-least", "at-most", "for")
        made = Throughput(
            source=section.need("from", self._place),
            target=section.need("to", self._place),
            at_least_bit_s=section.one("at-least", _rate, None),
            at_most_bit_s=section.one("at-most", _rate, None),
            seconds=section.one("for", lambda item: item.parsed(quantities.seconds), 2.0),
        )
        if made.at_least_bit_s is None and made.at_most_bit_s is None:
            if field.is_flawed:
                raise Refused
            raise field.refuse('needs "at-least" or "at-most"')
        return made

    def _run(self, field: Field) -> Run:
        section = field.section("in", "command", "status", "contains")
        return Run(
            source=section.need("in", self._place),
            command=section.need("command", values.command),
            status=section.one("status", lambda item: item.integer(0, 255), 0),
            contains=section.one("contains", lambda item: item.text(), None),
        )

    def _packets(self, field: Field) -> Packets:
        section = field.section("on", "filter", "at-least", "while", "for")
        link, node = section.need("on", self._link_end)
        return Packets(
            link=link,
            node=node,
            filter=section.one("filter", lambda item: item.text(), ""),
            at_least=section.one("at-least", lambda item: item.integer(1, 1_000_000), 1),
            during=section.one("while", self._during, None),
            seconds=section.one("for", lambda item: item.parsed(quantities.seconds), 2.0),
        )

    def _during(self, field: Field) -> Traffic:
        _, probe = self._only(field.section(*self._traffic), self._traffic)
        return cast(Traffic, probe)

    def _link_end(self, field: Field) -> tuple[str, str]:
        text = field.text()
        link = self._lab.link(text)
        if link is None:
            known = {name for item in self._lab.links for name in (item.name, *map(str, item.ends))}
            raise field.refuse(f'no link "{text}"{nearest(text, sorted(known))}')
        node = next((end.node for end in link.ends if str(end) == text), link.ends[0].node)
        return link.name, node

    def _place(self, field: Field) -> Place:
        """``HOST`` or ``HOST/CONTAINER``."""
        name, slash, inside = field.text().partition("/")
        host = self._lab.host(name)
        if host is None:
            known = [item.name for item in self._lab.hosts]
            raise field.refuse(f'no host named "{name}"{nearest(name, known)}')
        if not slash:
            return Place(name)
        if host.container(inside) is None:
            known = [item.name for item in host.containers]
            raise field.refuse(f'{name} has no container "{inside}"{nearest(inside, known)}')
        return Place(name, inside)

    def _target(self, field: Field) -> Target:
        text = field.text()
        try:
            return ipaddress.ip_address(text)
        except ValueError:
            pass
        if "/" in text or self._lab.host(text) is not None:
            return self._place(field)
        known = {name for host in self._lab.hosts for name in _names(host)}
        if "." not in text and text not in known:
            wrong = f'no host, container or alias "{text}", and no address'
            raise field.refuse(f"{wrong}{nearest(text, sorted(known))}")
        return text


def _names(host: Host) -> set[str]:
    aliases = {
        alias for item in host.containers for place in item.networks for alias in place.aliases
    }
    return {host.name, *(item.name for item in host.containers), *aliases}


def _family(field: Field) -> Literal[4, 6]:
    return 6 if field.choice("4", "6") == "6" else 4


def _rate(field: Field) -> int:
    return field.parsed(quantities.bits_per_second)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(f'"{text}" is not a URL: http://ADDRESS[:PORT]/PATH')
    return text


def describe(kind: str, probe: Probe) -> str:
    """A check's name where the file gives none."""
    match probe:
        case Packets():
            what = f" {probe.filter}" if probe.filter else ""
            return f"packets{what} on {probe.link}"
        case Resolve():
            return f"{probe.source} resolves {probe.name}"
        case Http():
            return f"{probe.source} gets {probe.url}"
        case Run():
            return f"{probe.source} runs {' '.join(probe.command)}"
        case Reach():
            return f"{kind} {probe.source} to {probe.target} port {probe.port}"
        case _:
            return f"{kind} {probe.source} to {probe.target}"
