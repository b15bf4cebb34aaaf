"""``cnm completion``: small scripts that ask the program itself what may come next.

The shell's script calls ``cnm __complete SHELL WORD…`` with the words of the line up
to the cursor; the last one is what is being typed. So there is one definition of
commands and flags, and a script never grows old. Names come from the daemon.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag, Words
from cnm.cli.commands import GLOBAL_FLAGS, Daemon, Entry, Group
from cnm.cli.errors import CommandError

Candidate = tuple[str, str]

_BASH = """\
# bash completion for cnm; load it with: source <(cnm completion bash)
_cnm() {
    mapfile -t COMPREPLY < <(
        "$1" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1
    )
}
complete -F _cnm cnm net
"""
_ZSH = """\
#compdef cnm net
# zsh completion for cnm; load it with: source <(cnm completion zsh)
_cnm() {
    local line
    local -a described
    while IFS= read -r line; do
        described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done < <("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#described )) && _describe 'cnm' described
}
if [[ "${funcstack[1]}" == _cnm ]]; then
    _cnm
else
    compdef _cnm cnm net
fi
"""
_FISH = """\
# fish completion for cnm; load it with: cnm completion fish | source
function __cnm_complete
    set -l words (commandline -opc)
    $words[1] __complete fish $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c cnm -f -a '(__cnm_complete)'
complete -c net -f -a '(__cnm_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(call: Call) -> int:
    """Prints the script for a shell."""
    shell = call.arguments[0]
    if shell not in _SCRIPTS:
        raise CommandError(f'unknown shell "{shell}": must be one of {", ".join(_SCRIPTS)}')
    sys.stdout.write(_SCRIPTS[shell])
    return 0


def candidates(group: Group, arguments: Sequence[str], host: str) -> int:
    """Prints what may stand at the cursor: a candidate, a tab and its meaning a line."""
    shell, words = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if shell == "bash":
        words = _joined(words)
    current = words.pop() if words else ""
    for text, meaning in _complete(group, words, current, host):
        if shell == "bash" and current.startswith("-"):
            # bash takes "=" for the end of a word and replaces what stands behind it.
            text = text.rpartition("=")[2]
        sys.stdout.write(f"{text}\t{meaning}\n")
    return 0


def _joined(words: Sequence[str]) -> list[str]:
    """Puts ``--flag``, ``=`` and ``value``, which bash hands over apart, together again."""
    whole: list[str] = []
    for word in words:
        if whole and (word == "=" or whole[-1].endswith("=")) and whole[-1].startswith("-"):
            whole[-1] += word
        else:
            whole.append(word)
    return whole


def _complete(group: Group, words: list[str], current: str, host: str) -> list[Candidate]:
    """The candidates that begin with ``current``, behind ``words``."""
    reader = Words(GLOBAL_FLAGS, interspersed=False)
    try:
        reader.read(words)
    except CommandError:
        return []
    host = reader.given.get("host", [host])[-1]
    entry: Entry | Daemon | Group | None = group
    rest = reader.arguments
    while isinstance(entry, Group) and rest:
        entry, rest = entry.find(rest[0]), rest[1:]
    if isinstance(entry, Group):
        found = _commands(entry, current, top=entry is group)
    elif isinstance(entry, Entry):
        found = _of_command(entry.load(), rest, current, host)
    else:
        found = []
    return [(text, meaning) for text, meaning in found if text.startswith(current)]


def _commands(group: Group, current: str, top: bool) -> list[Candidate]:
    if current.startswith("-"):
        return _flags(GLOBAL_FLAGS) if top else [("--help", "Print this help")]
    return [(name, entry.short) for name, entry in sorted(group.entries.items())]


def _of_command(command: Command, words: list[str], current: str, host: str) -> list[Candidate]:
    if _flags_ended(command, words):
        return _arguments(command, words, host)
    flag = _waiting(command.flags, words)
    if flag:
        return _names(flag.names, host)
    if current.startswith("--") and "=" in current:
        prefix = current.partition("=")[0]
        named = next((flag for flag in command.flags if f"--{flag.name}" == prefix), None)
        values = _names(named.names, host) if named else []
        return [(f"{prefix}={text}", meaning) for text, meaning in values]
    if current.startswith("-"):
        return _flags(command.flags)
    return _arguments(command, words, host)


def _flags_ended(command: Command, words: list[str]) -> bool:
    """Whether what follows belongs to the command that the container runs."""
    reader = Words(command.flags, command.interspersed)
    try:
        reader.read(words)
    except CommandError:
        return False
    return bool(reader.arguments) and not command.interspersed


def _waiting(flags: Sequence[Flag], words: list[str]) -> Flag | None:
    """The flag whose value is being typed, if the last word is one that wants a value."""
    last = words[-1] if words else ""
    for flag in flags:
        if flag.kind != "bool" and last in (f"--{flag.name}", f"-{flag.short}"):
            return flag
    return None


def _flags(flags: Sequence[Flag]) -> list[Candidate]:
    shown = (flag for flag in flags if not flag.same_as)
    return [(f"--{flag.name}", flag.help) for flag in sorted(shown, key=lambda flag: flag.name)]


def _arguments(command: Command, words: list[str], host: str) -> list[Candidate]:
    reader = Words(command.flags, command.interspersed)
    try:
        reader.read(words)
    except CommandError:
        return []
    place = len(reader.arguments)
    if command.maximum is not None and place >= command.maximum:
        return []
    kind = command.names[min(place, len(command.names) - 1)] if command.names else ""
    return [item for item in _names(kind, host) if item[0] not in reader.arguments]


def _names(kind: str, host: str) -> list[Candidate]:
    """Names of networks, containers, images, all of them (objects), drivers or shells."""
    try:
        if kind == "networks":
            return _networks(host)
        if kind == "containers":
            return _containers(host)
        if kind == "objects":
            return _containers(host) + _networks(host) + _images(host)
        if kind == "images":
            return _images(host)
        if kind == "drivers":
            return _drivers(host)
    except CommandError:
        return []
    return [(shell, "") for shell in _SCRIPTS] if kind == "shells" else []


def _networks(host: str) -> list[Candidate]:
    found = Client(host).get("/networks")
    networks = found if isinstance(found, list) else []
    return sorted((str(item["Name"]), f"{item['Driver']} network") for item in networks)


def _containers(host: str) -> list[Candidate]:
    found = Client(host).get("/containers/json", all="1")
    containers = found if isinstance(found, list) else []
    return sorted((item["Names"][0].removeprefix("/"), "container") for item in containers)


def _images(host: str) -> list[Candidate]:
    found = Client(host).get("/images/json")
    images = found if isinstance(found, list) else []
    names = (name for image in images for name in image.get("RepoTags") or ())
    return sorted((str(name), "image") for name in names)


def _drivers(host: str) -> list[Candidate]:
    found = Client(host).get("/info")
    plugins = found.get("Plugins") if isinstance(found, dict) else None
    drivers = plugins.get("Network") if isinstance(plugins, dict) else None
    return sorted((str(name), "driver") for name in drivers or ())


COMPLETION = Command(
    completion,
    "Print the completion script for a shell",
    usage="bash|zsh|fish",
    minimum=1,
    maximum=1,
    names=("shells",),
    examples=(
        "completion bash > /etc/bash_completion.d/cnm",
        "completion zsh > /usr/local/share/zsh/site-functions/_cnm",
        "completion fish > /etc/fish/completions/cnm.fish",
    ),
)
