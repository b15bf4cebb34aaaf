"""What is wrong with a wire, made real: by netem where the kernel has it, else by nft and tbf.

An impairment acts on what leaves an end of a link: a qdisc at its root. Without netem a rate
is a token bucket (tbf), and loss is a rule where the packets arrive, at the other end, as is a
cut, so that both can be taken back without touching addresses or routes. A cut keeps the
carrier up: veth(4) cannot say otherwise while both ends are up.

The kernel is the only record: :func:`read` finds what is there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cnm.netlab.errors import LabError
from cnm.netlab.model import End, Impairment, Link

TABLE = "netdev netlab"
_NO_NETEM = "Specified qdisc kind is unknown"
_PARTS = 1_000_000  # loss is drawn in millionths
_BURST_MIN_BYTES = 32 * 1024  # of a token bucket: a few jumbo frames, or nothing passes
_BURST_S = 0.004  # at high rates: what passes in a jiffy (250 Hz)
_TBF_LATENCY = "50ms"
_NETEM_LIMIT = 100_000  # packets: its default of 1000 loses some at 1 Gbit/s and 12 ms already
_CUT = "cut"


@dataclass(frozen=True, slots=True)
class Wire:
    """Both ends of a link with their namespaces' paths, the link's first end first."""

    link: Link
    namespaces: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has on a wire, for each direction (``out`` first): qdisc, loss, cut."""

    qdiscs: tuple[str, str]
    losses: tuple[str, str]
    cut: bool

    def __bool__(self) -> bool:
        return self.cut or any(self.qdiscs) or any(self.losses)

    def __str__(self) -> str:
        words = ["cut"] if self.cut else []
        for direction, qdisc, loss in zip(("out", "in"), self.qdiscs, self.losses, strict=True):
            text = ", ".join(filter(None, (qdisc, loss)))
            if text:
                words.append(f"{direction}: {text}")
        return "; ".join(words) or "in order"


def apply(wire: Wire, impairment: Impairment) -> None:
    """Have exactly this on the wire; a cut stays cut.

    :raises LabError: this kernel cannot do it (names what), and nothing is changed.
    """
    ways = [0, 1] if impairment.direction == "both" else [0 if impairment.direction == "out" else 1]
    by_netem = has_netem()
    check(impairment, by_netem)
    for way in (0, 1):
        _set_queue(wire, way, impairment if way in ways else Impairment(), by_netem)
        _set_loss(wire, way, 0.0 if by_netem or way not in ways else impairment.loss_percent)


def clear(wire: Wire) -> None:
    """Nothing wrong with it any more, not cut either."""
    for way in (0, 1):
        _set_queue(wire, way, Impairment(), by_netem=False)
        _set_rules(wire, way, [])


def cut(wire: Wire) -> None:
    """No packet passes, in neither direction. Again is fine."""
    for way in (0, 1):
        kept = [rule for rule in _rules(wire, way) if rule != _CUT]
        _set_rules(wire, way, [_CUT, *kept])


def mend(wire: Wire) -> None:
    """Undo a cut; impairments stay. Not cut is fine."""
    for way in (0, 1):
        _set_rules(wire, way, [rule for rule in _rules(wire, way) if rule != _CUT])


def read(wire: Wire) -> Seen:
    """What is there now."""
    rules = [_rules(wire, way) for way in (0, 1)]
    queues = [_queue(wire.namespaces[way], wire.link.ends[way]) for way in (0, 1)]
    losses = [next((rule for rule in found if rule != _CUT), "") for found in rules]
    return Seen((queues[0], queues[1]), (losses[0], losses[1]), any(_CUT in r for r in rules))


def is_nothing(impairment: Impairment) -> bool:
    """Whether it asks for nothing at all."""
    plain = Impairment()
    wishes = (field.name for field in fields(Impairment) if field.name != "direction")
    return all(getattr(impairment, name) == getattr(plain, name) for name in wishes)


# the queue of what leaves an end


def _set_queue(wire: Wire, way: int, impairment: Impairment, by_netem: bool) -> None:
    namespace, end = wire.namespaces[way], wire.link.ends[way]
    words = _netem(impairment) if by_netem else _tbf(impairment)
    if words:
        _tc(namespace, ["qdisc", "replace", "dev", end.interface, "root", *words])
    elif _queue(namespace, end):
        _tc(namespace, ["qdisc", "delete", "dev", end.interface, "root"])


def _netem(wish: Impairment) -> list[str]:
    if is_nothing(wish):
        return []
    words = ["netem", "limit", str(_NETEM_LIMIT)]
    if wish.delay_s or wish.jitter_s:
        words += ["delay", f"{wish.delay_s * 1e6:.0f}us"]
        words += [f"{wish.jitter_s * 1e6:.0f}us"] if wish.jitter_s else []
    shares = (("loss", wish.loss_percent), ("duplicate", wish.duplicate_percent))
    for word, share in (*shares, ("corrupt", wish.corrupt_percent)):
        words += [word, f"{share}%"] if share else []
    words += ["rate", f"{wish.rate_bit_s}bit"] if wish.rate_bit_s else []
    return words


def _tbf(wish: Impairment) -> list[str]:
    if not wish.rate_bit_s:
        return []
    burst = max(_BURST_MIN_BYTES, int(wish.rate_bit_s / 8 * _BURST_S))
    rate = f"{wish.rate_bit_s}bit"
    return ["tbf", "rate", rate, "burst", str(burst), "latency", _TBF_LATENCY]


def _queue(namespace: str, end: End) -> str:
    """The impairing qdisc of an interface in tc's words, or nothing."""
    listing = _tc(namespace, ["qdisc", "show", "dev", end.interface, "root"])
    for line in listing.splitlines():
        match = re.match(r"qdisc (netem|tbf) \S+ root refcnt \d+ (.*)", line)
        if match:
            return f"{match[1]} {match[2].strip()}"
    return ""


def has_netem() -> bool:
    """Tried in a namespace that is gone with the command."""
    tried = subprocess.run(
        ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1us"],
        capture_output=True,
        text=True,
        check=False,
    )
    return _NO_NETEM not in tried.stderr


def check(wish: Impairment, by_netem: bool | None = None) -> None:
    """Refuse what this kernel cannot do. :raises LabError: what, and what to do."""
    asked = [
        name
        for name, value in (
            ("delay", wish.delay_s),
            ("jitter", wish.jitter_s),
            ("duplicate", wish.duplicate_percent),
            ("corrupt", wish.corrupt_percent),
        )
        if value
    ]
    if asked and not (has_netem() if by_netem is None else by_netem):
        raise LabError(
            f"this kernel has no netem (CONFIG_NET_SCH_NETEM): {', '.join(asked)} cannot be done "
            "here, loss and rate can; `netlab vm` has a kernel with it"
        )


# rules where packets arrive


def _set_loss(wire: Wire, way: int, percent: float) -> None:
    kept = [rule for rule in _rules(wire, way) if rule == _CUT]
    _set_rules(wire, way, [*kept, *([f"loss {percent:g}%"] if percent else [])])


def _set_rules(wire: Wire, way: int, rules: Sequence[str]) -> None:
    """The rules for what travels that way, at its far end; one transaction."""
    namespace, end = wire.namespaces[1 - way], wire.link.ends[1 - way]
    if not rules:
        if _chain_of(namespace, end) is not None:
            _nft(namespace, [f"delete chain {TABLE} {_chain(end)}"])
            if not any("chain" in item for item in _listing(namespace)):
                _nft(namespace, [f"delete table {TABLE}"])
        return
    hook = f'type filter hook ingress device "{end.interface}" priority -500; policy accept;'
    lines = [f"add table {TABLE}", f"add chain {TABLE} {_chain(end)} {{ {hook} }}"]
    lines += [f"flush chain {TABLE} {_chain(end)}"]
    lines += [f"add rule {TABLE} {_chain(end)} {_rule(rule)}" for rule in rules]
    _nft(namespace, lines)


def _rule(rule: str) -> str:
    if rule == _CUT:
        return f'drop comment "{_CUT}"'
    share = float(rule.removeprefix("loss ").removesuffix("%"))
    limit = round(share / 100 * _PARTS)
    some = f"numgen random mod {_PARTS} < {limit} " if limit < _PARTS else ""
    return f'{some}drop comment "{rule}"'


def _rules(wire: Wire, way: int) -> list[str]:
    """Comments of the rules for what travels that way."""
    return _chain_of(wire.namespaces[1 - way], wire.link.ends[1 - way]) or []


def _chain_of(namespace: str, end: End) -> list[str] | None:
    """Comments of an end's rules; ``None``: it has no chain."""
    items = _listing(namespace)
    name = _chain(end)
    if not any(item.get("chain", {}).get("name") == name for item in items):
        return None
    rules = (item["rule"] for item in items if item.get("rule", {}).get("chain") == name)
    return [rule.get("comment", "") for rule in rules]


def _listing(namespace: str) -> Iterable[dict[str, Any]]:
    ended = subprocess.run(
        ["nsenter", f"--net={namespace}", "nft", "-j", "list", "ruleset", "netdev"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise LabError(_last_line(ended.stderr) or "nft does not answer")
    items: list[dict[str, Any]] = json.loads(ended.stdout)["nftables"] if ended.stdout else []
    return items


def _chain(end: End) -> str:
    return f"on-{end.interface}"


def _nft(namespace: str, lines: Sequence[str]) -> None:
    _inside(namespace, ["nft", "-f", "-"], "\n".join([*lines, ""]))


def _tc(namespace: str, words: Sequence[str]) -> str:
    return _inside(namespace, ["tc", *words])


def _inside(namespace: str, command: Sequence[str], given: str = "") -> str:
    """:raises LabError: it failed; in its own words."""
    ended = subprocess.run(
        ["nsenter", f"--net={namespace}", *command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        said = _last_line(ended.stderr) or f"status {ended.returncode}"
        raise LabError(f"{command[0]}: {said}")
    return ended.stdout + ended.stderr


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
