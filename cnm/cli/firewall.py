"""``net firewall``: what of the host's packet filter is ours, and who reaches what."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag
from cnm.cli.format import FORMAT_HELP, Listing
from cnm.cli.values import Row

RULES = Listing(
    "*formatter.firewallContext",
    {
        "Family": "FAMILY",
        "Table": "TABLE",
        "Place": "PLACE",
        "Packets": "PACKETS",
        "Bytes": "BYTES",
        "Network": "NETWORK",
        "Container": "CONTAINER",
        "Rule": "RULE",
        "Purpose": "PURPOSE",
    },
    ("Family", "Table", "Place", "Packets", "Rule", "Purpose"),
)
REACH = Listing(
    "*formatter.reachContext",
    {
        "Container": "CONTAINER",
        "Network": "NETWORK",
        "Port": "PORT",
        "Address": "ADDRESS",
        "From": "FROM",
        "Reaches": "REACHES",
        "Because": "BECAUSE",
    },
    ("Container", "Port", "Address", "From", "Reaches", "Because"),
)


def show(call: Call) -> int:
    """Prints every rule and element of ours, in the order in which the kernel meets them."""
    rows = [_rule(item) for item in _list(call.host, "/cnm/v1/firewall/rules", "Rules")]
    RULES.show(rows, call.string("format"), quiet=False)
    return 0


def check(call: Call) -> int:
    """Prints who can reach each published port."""
    rows = [_reach(item) for item in _list(call.host, "/cnm/v1/firewall/reach", "Ports")]
    wanted = call.arguments[0] if call.arguments else ""
    rows = [row for row in rows if wanted in ("", row.fields["Container"])]
    REACH.show(rows, call.string("format"), quiet=False)
    return 0 if rows or not wanted else _nothing(wanted)


def _nothing(name: str) -> int:
    sys.stderr.write(f"{name} publishes no ports\n")
    return 1


def _list(host: str, path: str, key: str) -> list[Mapping[str, object]]:
    answer = Client(host).get(path)
    found = answer.get(key) if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def _rule(item: Mapping[str, object]) -> Row:
    def count(key: str) -> str:
        value = item.get(key)
        return "" if value is None else str(value)

    return RULES.row(
        {
            **{key: str(item.get(key) or "") for key in ("Family", "Table", "Place", "Purpose")},
            **{key: str(item.get(key) or "") for key in ("Network", "Container")},
            "Packets": count("Packets"),
            "Bytes": count("Bytes"),
            "Rule": str(item.get("Text") or ""),
        }
    )


def _reach(item: Mapping[str, object]) -> Row:
    address = str(item.get("IP") or "")
    bracketed = f"[{address}]" if ":" in address else address
    return REACH.row(
        {
            **{key: str(item.get(key) or "") for key in ("Container", "Network", "From")},
            "Because": str(item.get("Because") or ""),
            "Port": f"{item.get('PrivatePort')}/{item.get('Type')}",
            "Address": f"{bracketed}:{item.get('PublicPort')}",
            "Reaches": "yes" if item.get("Reaches") else "no",
        }
    )


_FORMAT = Flag("format", "string", FORMAT_HELP)

SHOW = Command(
    show,
    "Show every rule and element of ours, what it is for, and what it has counted",
    usage="[OPTIONS]",
    flags=(_FORMAT,),
    examples=("firewall show", "firewall show --format '{{.Place}}: {{.Rule}}'"),
)
CHECK = Command(
    check,
    "Show who can reach each published port, and what says so",
    usage="[OPTIONS] [CONTAINER]",
    maximum=1,
    names=("containers",),
    flags=(_FORMAT,),
    examples=("firewall check", "firewall check web --format json"),
)
