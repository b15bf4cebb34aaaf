"""The command lines of ``cnm daemon`` and ``cnm uninstall``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from cnm import config

_DAEMON_EXAMPLES = """examples:
  cnm daemon
  cnm daemon --log-level debug --default-address-pool base=10.200.0.0/16,size=24
  cnm daemon --root /tmp/a --exec-root /tmp/b -H unix:///tmp/cnm.sock
  cnm daemon --validate --config-file /etc/cnm/daemon.json

All settings can stand in the configuration file; SIGHUP reads it again."""


def daemon_parser() -> argparse.ArgumentParser:
    """Each flag's ``dest`` is the key that it has in the configuration file."""
    parser = argparse.ArgumentParser(
        prog="cnm daemon",
        description="Serve networks, in the foreground.",
        epilog=_DAEMON_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--config-file", metavar="FILE", help=f"default {config.DEFAULT_FILE}")
    add("--validate", action="store_true", help="check the configuration and exit")
    _paths(parser)
    add("--pidfile", metavar="FILE")
    add(*("-D", "--debug"), action="store_true", help="the same as --log-level debug")
    add("--log-level", metavar="LEVEL", help="debug, info, warn, error or fatal")
    add("--label", dest="labels", action="append", metavar="KEY=VALUE")
    add(
        "--default-address-pool",
        dest="default-address-pools",
        action="append",
        type=_typed(config.pool_flag),
        metavar="base=CIDR,size=N",
        help="where networks without a subnet of their own get one",
    )
    add("--bridge", metavar="NAME", help="device of the network bridge, default cnm0")
    add("--bip", metavar="CIDR", help="address of the network bridge")
    add("--mtu", type=int, metavar="N", help="of the network bridge")
    add("--userns-remap", metavar="USER", help="user[:group] or default: containers' users")
    add("--sweep-interval", type=float, metavar="SECONDS", help="default 30")
    add("--dns", action="append", metavar="IP", help="whom containers ask; default: the host's")
    add("--dns-search", action="append", metavar="DOMAIN", help="search domain of containers")
    add("--dns-opt", dest="dns-opts", action="append", metavar="OPTION", help="of resolv.conf")
    add(
        "--dns-host-listen",
        metavar="IP[:PORT]",
        help="answer the host there: names of all containers, NAME and NAME.NETWORK",
    )
    add(
        "--plugin-dir",
        metavar="DIR",
        help="serve our drivers to Docker Engine there: /run/docker/plugins",
    )
    add("--metrics-addr", metavar="IP:PORT", help="serve Prometheus metrics there")
    return parser


def uninstall_parser() -> argparse.ArgumentParser:
    """Where the daemon kept its things, and whether to ask."""
    parser = argparse.ArgumentParser(
        prog="cnm uninstall",
        description="Remove every network, link, table and file of ours; containers that were"
        " adopted get their namespaces back as they were. The daemon must be stopped.",
        epilog="example:\n  cnm uninstall -f",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config-file", metavar="FILE", help=f"default {config.DEFAULT_FILE}")
    _paths(parser)
    parser.add_argument(*("-f", "--force"), action="store_true", help="do not ask")
    return parser


def settings_of(values: dict[str, Any]) -> config.Settings:
    """What the command line, as a dictionary, and the file say together.

    :raises InvalidParameter: see :func:`cnm.config.load`.
    """
    keys = {key.replace("_", "-"): value for key, value in values.items()}
    config_file = keys.pop("config-file", None)
    return config.load(keys, config_file)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """Only what was given, by ``dest``."""
    return vars(parser.parse_args(list(argv)))


def _paths(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(*("--root", "--data-root"), dest="data-root", metavar="DIR", help="/var/lib/cnm")
    add("--exec-root", metavar="DIR", help="/run/cnm")
    add(*("-H", "--host"), dest="hosts", action="append", metavar="unix://PATH")


def _typed(parse_text: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse shows the text of its own error only."""

    def convert(text: str) -> Any:
        try:
            return parse_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
