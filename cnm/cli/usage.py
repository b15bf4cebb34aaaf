"""The texts of ``--help``, in the layout of Docker's."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from cnm.cli.command import Command, Flag
from cnm.cli.commands import GLOBAL_FLAGS, Daemon, Entry, Group

WIDTH = 80


def of_command(path: str, command: Command, aliases: Sequence[str] = ()) -> str:
    """What ``cnm … --help`` prints for a command."""
    usage = f"Usage:  {path} {command.usage}".rstrip()
    blocks = [usage, command.short]
    if aliases:
        parent = path.rpartition(" ")[0]
        names = ", ".join([path, *(f"{parent} {alias}" for alias in aliases)])
        blocks.append(f"Aliases:\n  {names}")
    blocks.append("Options:\n" + _flags(command.flags))
    if command.examples:
        program = path.rpartition(" ")[0] or path
        lines = (f"  {program} {example}" for example in command.examples)
        blocks.append("Examples:\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def of_group(path: str, group: Group, examples: Sequence[str] = ()) -> str:
    """What a noun prints without a verb. The top level shows the global flags too."""
    top = " " not in path
    blocks = [f"Usage:  {path} {'[OPTIONS] ' if top else ''}COMMAND", group.short]
    blocks.append("Commands:\n" + _entries(group.entries.items()))
    if top:
        blocks.append("Global Options:\n" + _flags(GLOBAL_FLAGS))
    if examples:
        blocks.append("Examples:\n" + "\n".join(f"  {example}" for example in examples))
    blocks.append(f"Run '{path} COMMAND --help' for more information on a command.")
    return "\n\n".join(blocks) + "\n"


def _entries(entries: Iterable[tuple[str, Entry | Daemon | Group]]) -> str:
    rows = sorted(entries)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(width)}  {entry.short}" for name, entry in rows)


def _flags(flags: Sequence[Flag]) -> str:
    shown = (flag for flag in flags if not flag.same_as)
    ordered = sorted(shown, key=lambda flag: flag.name)
    names = [_flag_name(flag) for flag in ordered]
    width = max(len(name) for name in names) + 3
    lines: list[str] = []
    for name, flag in zip(names, ordered, strict=True):
        help_text = flag.help + _default(flag)
        wrapped = textwrap.wrap(help_text, max(WIDTH - width, 30), break_on_hyphens=False)
        lines.append(name.ljust(width) + wrapped[0])
        lines += [" " * width + line for line in wrapped[1:]]
    return "\n".join(lines)


def _flag_name(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    kind = "" if flag.kind == "bool" else f" {flag.kind}"
    return f"  {short}--{flag.name}{kind}"


def _default(flag: Flag) -> str:
    if not flag.default:
        return ""
    return f' (default "{flag.default}")' if flag.kind == "string" else f" (default {flag.default})"
