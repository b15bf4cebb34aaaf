"""What the commands call a lab: by the name of one that is up, or by its file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from cnm.netlab import labfile, marks
from cnm.netlab.lab import Lab
from cnm.netlab.state import State

_ENDINGS = (".yaml", ".yml")


def is_file(word: str) -> bool:
    """Whether a word of the command line is meant as a file."""
    return word.endswith(_ENDINGS) or "/" in word


def name_of(word: str) -> str:
    """The name of a lab, by its name or its file.

    A file that was changed, or broken, since its lab was brought up still names that lab.

    :raises LabFileError: the file has mistakes, and no lab of it is up.
    """
    if not is_file(word):
        return word
    path = Path(word).absolute()
    for folder in marks.STATE_FOLDER.glob("*/lab.json"):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(folder.read_text(encoding="utf-8"))["path"] == str(path):
                return folder.parent.name
    return labfile.load(path).name


def lab_of(word: str) -> Lab:
    """The lab that is up, by its name or its file.

    :raises LabNotFound: it is not up.
    """
    return Lab.attach(State(name_of(word)).lab)
