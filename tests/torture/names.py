"""Do names resolve as the store says? Judged with ``nft``, ``ss`` and ``dig``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from livedaemon import run

Facts = dict[str, Any]

# What stands in a sandbox's own namespace: nothing, or exactly this.
_QUERY = "ip daddr 127.0.0.11 {0} dport 53 notrack {0} dport set {1}"
_ANSWER = "ip saddr 127.0.0.11 {0} sport {1} notrack {0} sport set 53"
_HEAD = """\
table ip cnm-dns {
	chain rewrite {
		type filter hook output priority raw; policy accept;
"""
_ADDRESS = re.compile(r"^[\d.]+$", re.M)
_BOUND = re.compile(r"^(udp|tcp)\s.*\s127\.0\.0\.11:(\d+)\s", re.M)


def differences(networks: list[Facts], name: str, namespace: str) -> Iterator[str]:
    """Of one container: rules and sockets inside it, and every name that the store has."""
    own = [item for item in networks if item["Name"] != "bridge" and _members(item, name)]
    rules, ports = _inside(namespace)
    if not own and not rules and not ports:
        return  # never on a network with names, or given back
    if rules != _expected_rules(ports):
        yield f"{name}: rules for sockets at {ports}: {rules}"
        return
    wanted = _wanted(networks, own)
    found = _asked(namespace, sorted(wanted))
    for question, answers in wanted.items():
        if found[question] != answers:
            yield f"{name}: {question} is {found[question]}, the store says {answers}"


def _expected_rules(ports: dict[str, str]) -> str:
    lines = []
    for rule, what in ((_QUERY, "queries to"), (_ANSWER, "answers of")):
        for transport in ("udp", "tcp"):
            port = ports.get(transport, "?")
            comment = f'comment "{transport} {what} the resolver at {port}"'
            lines.append(f"\t\t{rule.format(transport, port)} {comment}\n")
    return f"{_HEAD}{''.join(lines)}\t}}\n}}\n"


def _members(network: Facts, name: str) -> list[Facts]:
    return [row for row in network["Containers"].values() if row["Name"] == name]


def _inside(namespace: str) -> tuple[str, dict[str, str]]:
    rules = run("ip", "netns", "exec", namespace, "nft", "-s", "list", "ruleset").stdout
    sockets = run("ip", "netns", "exec", namespace, "ss", "-Hlntu").stdout
    return rules, dict(_BOUND.findall(sockets))


def _wanted(networks: list[Facts], own: list[Facts]) -> dict[str, list[str]]:
    """Every container's name: its addresses on the networks that are shared, or none."""
    found: dict[str, list[str]] = {}
    for network in networks:
        for row in network["Containers"].values():
            if network["Name"] != "bridge":
                answers = found.setdefault(row["Name"], [])
                qualified = found.setdefault(f"{row['Name']}.{network['Name']}", [])
                if network in own:
                    address = row["IPv4Address"].split("/")[0]
                    answers.append(address)
                    qualified.append(address)
    return {question: sorted(answers[:1]) for question, answers in found.items()}


def _asked(namespace: str, questions: list[str]) -> dict[str, list[str]]:
    """First addresses; what is not ours must have been made to fail at once."""
    found: dict[str, list[str]] = {}
    for question in questions:
        done = run(
            *("ip", "netns", "exec", namespace, "dig", "+short", "+time=3", "+tries=2"),
            *("@127.0.0.11", question, "A"),
        )
        found[question] = sorted(_ADDRESS.findall(done.stdout))[:1]
    return found
