"""What the parsers of all sub-commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers


def parser(
    subparsers: Subparsers, name: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A sub-command's parser, with examples behind its help."""
    return subparsers.add_parser(
        name,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
